"""`tidegate serve -c config/echo.toml` against the TCP of Linux: loss, half-close, resets, closed windows, many at
once."""
import errno
import json
import select
import socket
import struct
import time

from lab import Failed, case, check, check_equal, exchange, main, note, rate, run, wait_until

MEGABYTE = 1_000_000
DEVICE = ('--', '--vdev=net_af_packet0,iface=tg0', '--no-pci')


def serve_echo(lab, namespace, *words, device=DEVICE):
    return lab.serve(namespace, 'echo.toml', '--set', 'limits.connections_v6=1k', '--set', 'port.link_wait_ms=2s',
                     *words, *device)


def intact(result, size, what):
    sent, received, count, _ = result
    check_equal(count, size, f'{what}: octets that came back')
    check_equal(received, sent, f'{what}: SHA-256')


def reset_on_close(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def lossy_path(lab, percent):
    """Server and client with a router between them that loses forwarded packets of both directions."""
    server, router, client = lab.namespace('server'), lab.namespace('router'), lab.namespace('client')
    for key in ('default', 'all'):
        server.sysctl(f'net.ipv6.conf.{key}.disable_ipv6', 1)
    lab.veth(server, 'tg0', router, 'tg1')
    lab.veth(router, 'tg2', client, 'tg3')
    router.sysctl('net.ipv4.ip_forward', 1)
    router.ip('addr', 'add', '10.0.0.254/24', 'dev', 'tg1')
    router.ip('addr', 'add', '10.0.1.254/24', 'dev', 'tg2')
    client.ip('addr', 'add', '10.0.1.2/24', 'dev', 'tg3')
    client.ip('route', 'add', 'default', 'via', '10.0.1.254')
    rules = lab.write('loss.nft', f'''
table inet loss {{
  counter dropped {{ }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    numgen random mod 100 < {percent} counter name dropped drop
  }}
}}
''')
    run(router.argv('nft', '-f', rules))

    def dropped():
        text = run(router.argv('nft', 'list', 'counter', 'inet', 'loss', 'dropped')).stdout
        return int(text.split('packets')[1].split()[0])
    return server, client, dropped


@case('echo of 100 MB both ways, intact, with 1% of the packets lost in each direction')
def hundred_megabytes_with_loss(lab):
    server, client, dropped = lossy_path(lab, 1)
    process = serve_echo(lab, server, '--set', 'port.gateway=10.0.0.254')
    size = 100 * MEGABYTE
    result = exchange(client.connect('10.0.0.1', 7), size, seed=100, seconds=100)
    intact(result, size, '100 MB with loss')
    rate('echo of 100 MB with 1% loss, af_packet', size / result[3] / MEGABYTE, 'MB/s each way')
    lost = dropped()
    check(lost > 500, f'the router lost {lost} packets only')
    summary = lab.ends_well(process)
    note(f'the router lost {lost} packets, tidegate retransmitted {summary["retransmits"]}')
    check(summary['retransmits'] > 200, f'{summary["retransmits"]} retransmissions')
    check_equal(summary['groups'][0]['buffers_left'], 0, 'buffers left')


@case('echo of 100 MB without loss, and of 5 MB over IPv6')
def hundred_megabytes(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    size = 100 * MEGABYTE
    result = exchange(client.connect('10.0.0.1', 7), size, seed=101, seconds=60)
    intact(result, size, '100 MB')
    rate('echo of 100 MB, af_packet', size / result[3] / MEGABYTE, 'MB/s each way')
    intact(exchange(client.connect('fd00::1', 7), 5 * MEGABYTE, seed=102), 5 * MEGABYTE, '5 MB over IPv6')
    lab.ends_well(process)


@case('half-close: what Linux sends before its FIN all comes back after it')
def half_close(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    for size in (0, 1, 1460, 65_537, 1_000_000):
        intact(exchange(client.connect('10.0.0.1', 7), size, seed=size, seconds=20), size, f'{size} octets')
    # A pause between FIN and the last octets read: the server is in CLOSE-WAIT with data to send.
    sock = client.connect('10.0.0.1', 7, SO_RCVBUF=4096)
    data = bytes(range(256)) * 400
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    time.sleep(1)
    back = b''
    while piece := sock.recv(65536):
        back += piece
    check(back == data, f'{len(back)} of {len(data)} octets came back')
    sock.close()
    wait_until(lambda: not lab.netstat(server, '--state', 'close-wait')['connections'], 5, 'no CLOSE-WAIT left')
    lab.ends_well(process)


@case('resets by the client, idle and in the middle of data, leave nothing behind')
def resets(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    for i in range(300):
        sock = client.connect('10.0.0.1', 7)
        if i % 3 > 0:
            sock.sendall(b'x' * (100 if i % 3 == 1 else 50_000))
        reset_on_close(sock)
    wait_until(lambda: lab.netstat(server)['states'].get('ESTABLISHED', 0) == 0, 5, 'no connection left')
    intact(exchange(client.connect('10.0.0.1', 7), 100_000, seed=7), 100_000, 'after the resets')
    summary = lab.ends_well(process)
    group = summary['groups'][0]
    check_equal((group['connections_left'], group['buffers_left']), (0, 0), 'connections and buffers left')
    check(summary['opened'] >= 250, f'only {summary["opened"]} were accepted before their reset')


@case('a closed port answers with a reset')
def closed_port(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    for host in ('10.0.0.1', 'fd00::1'):
        try:
            client.connect(host, 4444, seconds=5).close()
            raise Failed(f'{host}: connected to a port nobody listens on')
        except OSError as error:
            check_equal(error.errno, errno.ECONNREFUSED, f'{host}: errno')
    lab.ends_well(process)


@case('5,000 connections open at once, each with its own answer')
def many_at_once(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    wanted = 5000
    poll = select.epoll()
    socks = {}
    with client.entered():
        for _ in range(wanted):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(('10.0.0.1', 7))
            socks[sock.fileno()] = sock
            poll.register(sock, select.EPOLLOUT)
    answers, end = {}, time.monotonic() + 40
    while len(answers) < wanted and time.monotonic() < end:
        for fd, events in poll.poll(1):
            if events & select.EPOLLOUT:
                socks[fd].send(b'connection %d' % fd)
                poll.modify(fd, select.EPOLLIN)
            else:
                answers[fd] = socks[fd].recv(100)
                poll.unregister(fd)
    check_equal(len(answers), wanted, 'connections that were answered')
    wrong = [fd for fd, text in answers.items() if text != b'connection %d' % fd]
    check(not wrong, f'{len(wrong)} got another answer than theirs: {wrong[:3]}')
    check_equal(lab.netstat(server)['states'].get('ESTABLISHED'), wanted, 'ESTABLISHED in netstat')
    for sock in socks.values():
        sock.close()
    wait_until(lambda: sum(v for k, v in lab.netstat(server)['states'].items() if k != 'LISTEN') == 0, 10, 'all closed')
    check_equal(lab.ends_well(process)['closed'], wanted, 'closed in good order')


@case('a client that does not read for three seconds: the window closes, and opens again')
def closed_window(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server)
    sock = client.connect('10.0.0.1', 7, SO_RCVBUF=16384)
    result = exchange(sock, 8 * MEGABYTE, seed=8, read_after=3.0, seconds=40)
    intact(result, 8 * MEGABYTE, '8 MB')
    check(result[3] > 3.0, 'the pause took place')
    check_equal(lab.ends_well(process)['groups'][0]['buffers_left'], 0, 'buffers left')


@case('fewer blocks than the connections could fill: slower, but every octet comes back')
def few_blocks(lab):
    server, client = lab.namespace('server'), lab.namespace('client')
    lab.veth(server, 'tg0', client, 'tg1')
    process = serve_echo(lab, server, '--set', 'limits.buffers=256')
    words = ('--service', 'echo', '--payload', '64k', '--concurrency', 100, '--connections', 1000, '--seconds', 60,
             '--target', '10.0.0.1:7', '--json', '--quiet', '--set', 'eal.vdevs=net_af_packet0,iface=tg1',
             '--set', 'port.addresses=10.0.0.2/24', '--set', 'port.ranges=10.0.0.16+16')
    done = lab.tidegate(client, 'bench', '-c', lab.root / 'config' / 'bench-af_packet.toml', *words, seconds=90,
                        wanted=None)
    check_equal(done.returncode, 0, f'exit code of bench: {done.stdout[-2500:]}')
    summary = json.loads(done.stdout)
    check_equal((summary['closed'], summary['failures']), (1000, {}), 'connections that got all their octets back')
    ended = lab.ends_well(process)
    check_equal(ended['groups'][0]['buffers_left'], 0, 'buffers left')
    note(f'{ended["retransmits"]} retransmits, drops {ended["groups"][0]["drops"]}')


@case('SIGTERM drains: old connections go on, new ones do not start, and the summary ends with 0')
def drain(lab):
    server, client = lab.pair(offloads=False)
    process = serve_echo(lab, server, '--set', 'workers.drain_timeout_ms=20s')
    old = client.connect('10.0.0.1', 7)
    old.sendall(b'before')
    check_equal(old.recv(100), b'before', 'echo before')
    process.popen.terminate()
    process.wait_for('^draining', 5)
    time.sleep(0.3)
    old.sendall(b'while draining')
    check_equal(old.recv(100), b'while draining', 'echo while draining')
    try:
        client.connect('10.0.0.1', 7, seconds=2).close()
        raise Failed('a new connection was accepted while draining')
    except OSError as error:
        note(f'new connection while draining: {error}')
        check(process.running(), 'still there for the old connection')
    old.shutdown(socket.SHUT_WR)
    check_equal(old.recv(100), b'', 'end of the old connection')
    old.close()
    check_equal(process.wait(5), 0, 'exit code')
    summary = process.json()
    check_equal((summary['opened'], summary['closed'], summary['good']), (1, 1, True), 'opened, closed, good')


@case('the drain timeout resets connections that stay, and says so; a second signal does so at once')
def drain_timeout(lab):
    server, client = lab.pair(offloads=False)
    for signals, timeout in ((1, '1s'), (2, '60s')):
        process = serve_echo(lab, server, '--set', f'workers.drain_timeout_ms={timeout}')
        stays = client.connect('10.0.0.1', 7)
        stays.sendall(b'x')
        check_equal(stays.recv(10), b'x', 'echo')
        for _ in range(signals):
            process.popen.terminate()
            process.wait_for('^draining', 5)
            time.sleep(0.2)
        check_equal(process.wait(8), 0, f'exit code after {signals} signals')
        summary = process.json()
        check_equal(summary['cut_short'], '1 connection was reset at the end of the drain time', 'what was cut short')
        check_equal(summary['good'], False, 'good')
        try:
            check(False, f'the peer saw {stays.recv(10)!r} instead of a reset')
        except ConnectionResetError:
            note('the peer saw the reset')
        stays.close()


if __name__ == '__main__':
    main()
