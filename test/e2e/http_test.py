"""`tidegate serve` with the HTTP profiles against clients of the Linux kernel: curl, ab and wrk, over veth and tap."""
import re
import socket
import time

from lab import Lab, case, check, check_equal, main, note, rate, run, service_counter

VETH_CONNECTIONS = 100_000
TAP_CONNECTIONS = 25_000


def ab(namespace, connections, *words, url='http://10.0.0.1/', concurrency=64, seconds=90):
    """ApacheBench; every request must be answered with 200. Returns requests a second."""
    out = run(namespace.argv('ab', '-q', '-s', 10, '-n', connections, '-c', concurrency, *words, url), seconds).stdout
    check_equal(re.search(r'Complete requests:\s+(\d+)', out)[1], str(connections), f'ab {words} complete requests')
    check_equal(re.search(r'Failed requests:\s+(\d+)', out)[1], '0', f'ab {words} failed requests')
    check('Non-2xx' not in out, f'ab {words} got other answers than 200: {out}')
    if '-k' in words:
        check_equal(re.search(r'Keep-Alive requests:\s+(\d+)', out)[1], str(connections), 'ab keep-alive requests')
    return float(re.search(r'Requests per second:\s+([\d.]+)', out)[1])


def wrk(namespace, *words, url='http://10.0.0.1/', seconds=4):
    """wrk; no socket error and only 200. Returns (requests, requests a second)."""
    command = ('wrk', '-t1', '-c32', f'-d{seconds}s', '--timeout', '10s', *words, url)
    out = run(namespace.argv(*command), seconds + 30).stdout
    check('Socket errors' not in out, f'wrk {words}: {out}')
    check('Non-2xx' not in out, f'wrk {words}: {out}')
    requests = int(re.search(r'(\d+) requests in', out)[1])
    check(requests > 0, f'wrk {words} made no request: {out}')
    return requests, float(re.search(r'Requests/sec:\s+([\d.]+)', out)[1])


def curl(namespace, url, *words):
    """Body of one answer, whose status must be 200."""
    out = run(namespace.argv('curl', '-sS', '--max-time', 5, '-w', '\n%{http_code}', *words, url)).stdout
    body, status = out.rsplit('\n', 1)
    check_equal(status, '200', f'curl {url} status')
    return body


def load(lab, namespace, server, path, connections, wrk_seconds):
    """The whole round of one device; ends the server and asserts what it counted itself."""
    body = curl(namespace, 'http://10.0.0.1/')
    check_equal(body, 'ok\n', 'body')
    check_equal(curl(namespace, 'http://[fd00::1]/', '-6'), 'ok\n', 'body over IPv6')
    closing = ab(namespace, connections)
    rate(f'{path}, ab, Connection: close', closing)
    rate(f'{path}, ab, keep-alive', ab(namespace, connections // 2, '-k'), 'requests/s')
    closed, per_second = wrk(namespace, '-H', 'Connection: close', seconds=wrk_seconds)
    rate(f'{path}, wrk, Connection: close', per_second)
    kept, per_second = wrk(namespace, seconds=wrk_seconds)
    rate(f'{path}, wrk, keep-alive', per_second, 'requests/s')
    ab(namespace, 500, url='http://[fd00::1]/', concurrency=16)
    summary = lab.ends_well(server)
    check(summary['opened'] >= connections + closed + 64, f'the server counted {summary["opened"]} connections only')
    served = service_counter(summary, 'http requests')
    check(served >= connections * 3 // 2 + closed + kept, f'the server counted {served} requests only')
    note(f'{path}: {summary["opened"]} connections, {served} requests, {summary["retransmits"]} retransmits, '
         f'drops {summary["groups"][0]["drops"]}')
    return summary['opened']


@case('clients that ask and ask and read nothing: others are served, and nothing of it stays')
def never_reading(lab):
    server, client = lab.pair()
    process = lab.serve(server, 'http-af_packet.toml')
    asked = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n' * 1200
    with client.entered():
        hogs = [socket.socket() for _ in range(250)]
    sent = 0
    for hog in hogs:
        hog.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        hog.settimeout(5)
        hog.connect(('10.0.0.1', 80))
        hog.setblocking(False)
    for _ in range(20):
        for hog in hogs:
            try:
                sent += hog.send(asked)
            except BlockingIOError:
                pass
        time.sleep(0.05)
    check(sent > 250 * 20_000, f'{sent} octets of requests were taken')
    for _ in range(20):
        curl(client, 'http://10.0.0.1/')
    for hog in hogs:
        hog.close()
    for _ in range(20):
        curl(client, 'http://10.0.0.1/')
    summary = lab.ends_well(process)
    group = summary['groups'][0]
    check_equal((group['connections_left'], group['buffers_left']), (0, 0), 'connections and buffers left')
    note(f'references refused {group["tcp"]["references_exhausted"]} times')


@case('curl, ab and wrk against net_af_packet over veth, and over IPv6')
def over_veth(lab):
    server, client = lab.pair()
    process = lab.serve(server, 'http-af_packet.toml', '--set', 'limits.time_wait=400k')
    opened = load(lab, client, process, 'af_packet', VETH_CONNECTIONS, 4)
    check(opened >= VETH_CONNECTIONS, f'{opened} connections')


@case('checksums are verified and made when the wire carries finished ones')
def checksums(lab):
    server, client = lab.pair(offloads=False)
    process = lab.serve(server, 'http-af_packet.toml', '--set', 'port.trust_rx_checksums=false')
    ab(client, 2000)
    ab(client, 500, url='http://[fd00::1]/')
    drops = lab.ends_well(process)['groups'][0]['drops']
    check('tcp_bad_checksum' not in drops and 'ipv4_bad_checksum' not in drops, f'checksum drops: {drops}')


@case('curl, ab and wrk against net_tap, and over IPv6')
def over_tap(lab):
    host = lab.namespace('host')
    process = lab.serve(host, 'http-tap.toml', '--set', 'limits.time_wait=400k')
    host.ip('addr', 'add', '10.0.0.2/24', 'dev', 'tg0')
    host.ip('addr', 'add', 'fd00::2/64', 'dev', 'tg0', 'nodad')
    host.ip('link', 'set', 'tg0', 'up')
    load(lab, host, process, 'tap', TAP_CONNECTIONS, 3)


@case('two workers share one queue: flows are spread in software')
def software_spread(lab):
    server, client = lab.pair()
    process = lab.serve(server, 'http-af_packet.toml', '--set', 'workers.count=2', '--set', 'port.rx_queues=1')
    check_equal(curl(client, 'http://10.0.0.1/'), 'ok\n', 'body')
    rate('af_packet, two workers on one queue, ab, Connection: close', ab(client, 15_000))
    ab(client, 15_000, '-k')
    wrk(client, seconds=2)
    summary = lab.ends_well(process)
    group = summary['groups'][0]
    check_equal(group['workers'], 2, 'workers')
    check(group['mailbox_frames'] > 15_000, f'only {group["mailbox_frames"]} frames went from worker to worker')


@case('the profile http.toml: its page, health check, redirect, 404 and the shed port')
def profile(lab):
    server, client = lab.pair()
    process = lab.serve(server, 'http.toml', '--set', 'port.trust_rx_checksums=true', '--set', 'limits.connections=4k',
                        '--set', 'limits.connections_v6=1k', '--set', 'limits.time_wait=16k', '--set',
                        'limits.time_wait_v6=4k', '--', '--vdev=net_af_packet0,iface=tg0', '--no-pci')
    page = (Lab.root / 'config' / 'www' / 'index.html').read_text()
    check_equal(curl(client, 'http://10.0.0.1/'), page, 'the page')
    check_equal(curl(client, 'http://10.0.0.1/health'), 'ok\n', 'health check')

    def status(url):
        return run(client.argv('curl', '-sS', '--max-time', 5, '-o', '/dev/null', '-w',
                               '%{http_code} %{redirect_url} %header{retry-after}', url)).stdout.strip()

    check_equal(status('http://10.0.0.1/old'), '301 http://10.0.0.1/', 'redirect')
    check_equal(status('http://10.0.0.1/nothing'), '404', 'unknown path')
    check_equal(status('http://10.0.0.1:8080/any'), '503  10', 'shed load')
    many = run(client.argv('curl', '-sS', '--max-time', 5, '-w', '%{num_connects} ', *['http://10.0.0.1/health'] * 3))
    check_equal(many.stdout, 'ok\n1 ok\n0 ok\n0 ', 'three requests on one connection')
    lab.ends_well(process)


if __name__ == '__main__':
    main()
