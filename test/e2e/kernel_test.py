"""Tidegate against the TCP of Linux, in the situations that tell a TCP that can be trusted from one that works on a good
day: a wire with faults, keepalive, closed windows, crossing FINs, negotiated options, a path MTU that shrinks."""
import concurrent.futures
import re
import socket
import threading
import time

from lab import case, check, check_equal, exchange, main, note, rate, run, wait_until

MEGABYTE = 1_000_000
DEVICE = ('--', '--vdev=net_af_packet0,iface=tg0', '--no-pci')


def serve(lab, namespace, profile, *words):
    return lab.serve(namespace, profile, '--set', 'limits.connections_v6=1k', '--set', 'port.link_wait_ms=2s', *words,
                     *DEVICE)


def faulty_wire(lab, **faults):
    """Server and client with a wire between them that hurts frames of both directions; see impair.cc."""
    server, wire, client = lab.namespace('server'), lab.namespace('wire'), lab.namespace('client')
    for namespace in (server, wire):
        for key in ('default', 'all'):
            namespace.sysctl(f'net.ipv6.conf.{key}.disable_ipv6', 1)
    lab.veth(server, 'tg0', wire, 'tg1')
    lab.veth(wire, 'tg2', client, 'tg3')
    client.ip('addr', 'add', '10.0.0.2/24', 'dev', 'tg3')
    client.ip('addr', 'add', 'fd00::2/64', 'dev', 'tg3', 'nodad')
    # Linux asks three times for a neighbour and then fails every connect; a wire that loses 5% eats all three one time
    # in several hundred.
    for family in ('ipv4', 'ipv6'):
        client.sysctl(f'net.{family}.neigh.tg3.mcast_solicit', 20)
    words = [word for name, value in faults.items() for word in ('--' + name.replace('_', '-'), value)]
    impair = lab.start(wire, 'impair', lab.program.parent.parent / 'test' / 'e2e' / 'impair', 'tg1', 'tg2', *words)
    impair.wait_for('^ready$', 5)
    return server, client, impair


def faults_done(impair):
    """Stops the wire and returns what it did to both directions together."""
    check_equal(impair.stop(), 0, 'exit code of impair')
    counts = impair.json()
    return {key: counts['there'][key] + counts['back'][key] for key in counts['there']}


def routed(lab):
    """Server and client with a router of the kernel between them."""
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
    return server, router, client


def intact(result, size, what):
    sent, received, count, _ = result
    check_equal(count, size, f'{what}: octets that came back')
    check_equal(received, sent, f'{what}: SHA-256')


def nothing_left(lab, process):
    summary = lab.ends_well(process)
    group = summary['groups'][0]
    check_equal((group['connections_left'], group['buffers_left']), (0, 0), 'connections and buffers left')
    return summary


def ss(namespace, *words):
    return run(namespace.argv('ss', '-tinoaH', *words)).stdout


@case('1 GB both ways, intact, on a wire that drops, reorders, duplicates and corrupts')
def one_gigabyte(lab):
    server, client, impair = faulty_wire(lab, seed=1, drop=0.1, reorder=0.3, duplicate=0.3, corrupt=0.01)
    process = serve(lab, server, 'echo.toml', '--set', 'tcp.receive_buffer_bytes=1m', '--set',
                    'tcp.send_buffer_bytes=1m')
    size = 1000 * MEGABYTE
    result = exchange(client.connect('10.0.0.1', 7), size, seed=1000, seconds=150)
    intact(result, size, '1 GB')
    rate('echo of 1 GB on a faulty wire, af_packet', size / result[3] / MEGABYTE, 'MB/s each way')
    summary = nothing_left(lab, process)
    faults = faults_done(impair)
    note(f'the wire: {faults}; tidegate retransmitted {summary["retransmits"]}, {summary["groups"][0]["drops"]}')
    for fault in ('dropped', 'reordered', 'duplicated', 'corrupted'):
        check(faults[fault] > 50, f'the wire {fault} {faults[fault]} frames only')
    check(summary['retransmits'] > 100, f'{summary["retransmits"]} retransmissions')


@case('sixty connections at once, of both families, on a wire that loses 5%, reorders 10%, duplicates 5%, corrupts 1%, 5 ms '
      'away')
def many_on_a_bad_wire(lab):
    server, client, impair = faulty_wire(lab, seed=2, drop=5, reorder=10, duplicate=5, corrupt=1, delay_ms=5)
    process = serve(lab, server, 'echo.toml')

    def one(number):
        host = 'fd00::1' if number % 2 else '10.0.0.1'
        return exchange(client.connect(host, 7, seconds=60), 20_000 + 1000 * number, seed=number, seconds=80)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for number, result in enumerate(pool.map(one, range(60))):
            intact(result, 20_000 + 1000 * number, f'connection {number}')
    wait_until(lambda: sum(v for k, v in lab.netstat(server)['states'].items() if k not in ('LISTEN', 'TIME-WAIT')) == 0,
               40, 'all closed')
    nothing_left(lab, process)
    faults = faults_done(impair)
    note(f'the wire: {faults}')
    check(faults['dropped'] > 50 and faults['corrupted'] > 10, 'the wire was bad')


@case('keepalive: Linux answers ours, we answer those of Linux, and a peer that has gone is given up')
def keepalive(lab):
    server, client = lab.pair(offloads=False)
    process = serve(lab, server, 'echo.toml', '--set', 'tcp.keepalive_idle_ms=400ms', '--set',
                    'tcp.keepalive_interval_ms=200ms', '--set', 'tcp.keepalive_probes=4')
    quiet = client.connect('10.0.0.1', 7)
    asks = client.connect('10.0.0.1', 7)
    asks.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        asks.setsockopt(socket.IPPROTO_TCP, option, value)
    time.sleep(4)
    for sock in (quiet, asks):
        sock.sendall(b'still there')
        check_equal(sock.recv(100), b'still there', 'echo after four idle seconds')
    client.ip('link', 'set', 'tg1', 'down')
    wait_until(lambda: lab.netstat(server)['states'].get('ESTABLISHED', 0) == 0, 6, 'both given up')
    check_equal(process.stop(), 0, 'exit code')
    summary = process.json()
    counters = summary['groups'][0]['tcp']
    note(f'counters {counters}')
    check(counters['keepalive_probes'] >= 10, f'{counters["keepalive_probes"]} probes')
    check_equal(counters['closed_timeout'], 2, 'connections that ended by timeout')


@case('windows closed on both sides: Linux probes ours, we probe that of Linux, and no octet is lost')
def closed_windows(lab):
    server, client = lab.pair(offloads=False)
    process = serve(lab, server, 'echo.toml', '--set', 'tcp.receive_buffer_bytes=32k', '--set',
                    'tcp.send_buffer_bytes=32k')
    sock = client.connect('10.0.0.1', 7, SO_RCVBUF=8192)
    size = 4 * MEGABYTE
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        result = pool.submit(exchange, sock, size, seed=4, read_after=4.0, seconds=40)
        time.sleep(3)
        seen = ss(client, 'dst', '10.0.0.1')
        check('timer:(persist' in seen, f'Linux waits for our window: {seen}')
        intact(result.result(), size, '4 MB after four seconds of closed windows')
    summary = nothing_left(lab, process)
    counters = summary['groups'][0]['tcp']
    check(counters['zero_window_probes'] >= 2, f'{counters["zero_window_probes"]} zero-window probes')


@case('simultaneous close: both FINs on the wire at once, CLOSING on both sides, TIME-WAIT on both')
def simultaneous_close(lab):
    server, client, impair = faulty_wire(lab, delay_ms=150)
    process = serve(lab, server, 'http.toml')
    count = 20
    socks = [client.connect('10.0.0.1', 80) for _ in range(count)]
    for sock in socks:
        sock.sendall(b'GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n')
    # The answers and their FINs leave after 150 ms and arrive after 300; ours leave between.
    time.sleep(0.22)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    for sock in socks:
        answer = b''
        while piece := sock.recv(65536):
            answer += piece
        check(answer.startswith(b'HTTP/1.1 200'), f'the answer: {answer[:100]!r}')
        sock.close()
    time.sleep(0.5)
    check_equal(lab.netstat(server)['states'].get('TIME-WAIT'), count, 'TIME-WAIT here')
    check_equal(ss(client, 'state', 'time-wait').count('10.0.0.1:80'), count, 'TIME-WAIT in Linux')
    summary = nothing_left(lab, process)
    check_equal(summary['groups'][0]['states_entered']['CLOSING'], count, 'CLOSING entered')
    faults_done(impair)


def options(namespace, *words):
    """What Linux says of the options of the one connection there."""
    text = ss(namespace, 'state', 'established', *words)
    note(' '.join(text.split()))
    return text


@case('ss -ti shows what was negotiated, as a client and as a server, and nothing that was not')
def negotiated(lab):
    server, client = lab.pair(offloads=False)
    client.sysctl('net.ipv4.tcp_ecn', 1)
    process = serve(lab, server, 'echo.toml')
    sock = client.connect('10.0.0.1', 7)
    sock.sendall(b'x' * 10_000)
    seen = options(client, 'dst', '10.0.0.1')
    for word in (r'\bts\b', r'\bsack\b', r'\becn\b', r'\bwscale:\d+,\d+', r'\bmss:1448\b', r'\bpmtu:1500\b'):
        check(re.search(word, seen), f'{word} is not in {seen}')
    sock.close()
    lab.ends_well(process)
    process = serve(lab, server, 'echo.toml', '--set', 'tcp.timestamps=false', '--set', 'tcp.sack=false', '--set',
                    'tcp.window_scaling=false', '--set', 'tcp.ecn=off', '--set', 'tcp.receive_buffer_bytes=60000')
    sock = client.connect('10.0.0.1', 7)
    sock.sendall(b'x' * 10_000)
    seen = options(client, 'dst', '10.0.0.1')
    check(re.search(r'\bmss:1460\b', seen), f'mss:1460 is not in {seen}')
    for word in (r'\bts\b', r'\bsack\b', r'\becn\b', r'\bwscale:'):
        check(not re.search(word, seen), f'{word} is in {seen}')
    sock.close()
    lab.ends_well(process)


@case('ss -ti of a connection that we opened')
def negotiated_by_us(lab):
    bench, kernel = lab.pair(offloads=False)
    kernel.sysctl('net.ipv4.tcp_ecn', 1)
    kernel.ip('addr', 'add', '10.0.0.9/24', 'dev', 'tg1')
    with kernel.entered():
        listener = socket.create_server(('10.0.0.9', 7))
    listener.settimeout(15)
    process = lab.start(bench, 'bench', lab.program, 'bench', '-c', lab.root / 'config' / 'bench-af_packet.toml', '--json',
                        '--quiet', '--service', 'echo', '--payload', '64k', '--concurrency', 1, '--connections', 1,
                        '--seconds', 20, '--target', '10.0.0.9:7', '--set', 'port.addresses=10.0.0.3/24', '--set',
                        'port.ranges=10.0.0.16+4', '--set', 'tcp.ecn=on')
    sock, _ = listener.accept()
    received = b''
    while len(received) < 65536:
        received += sock.recv(65536)
    seen = options(kernel, 'src', '10.0.0.9')
    for word in (r'\bts\b', r'\bsack\b', r'\becn\b', r'\bwscale:\d+,\d+', r'\bmss:1448\b'):
        check(re.search(word, seen), f'{word} is not in {seen}')
    sock.sendall(received)
    sock.shutdown(socket.SHUT_WR)
    check_equal(process.wait(20), 0, f'exit code; {process.tail()}')
    check_equal(process.json()['closed'], 1, 'connections closed in good order')


@case('Linux opens connections by SYN cookies, with timestamps and without, over both families')
def cookies(lab):
    server, client = lab.pair(offloads=False)
    process = serve(lab, server, 'echo.toml', '--set', 'tcp.syn_cookies=always')
    opened = 0
    for timestamps in (1, 0):
        client.sysctl('net.ipv4.tcp_timestamps', timestamps)
        for host in ('10.0.0.1', 'fd00::1'):
            sock = client.connect(host, 7)
            seen = options(client, 'dst', f'[{host}]' if ':' in host else host)
            # Without timestamps a cookie has room for the MSS alone.
            for word in (r'\bsack\b', r'\bwscale:\d+,\d+'):
                check(bool(re.search(word, seen)) == bool(timestamps), f'{word} in {seen}, timestamps {timestamps}')
            intact(exchange(sock, 2 * MEGABYTE, seed=opened, seconds=20), 2 * MEGABYTE, f'2 MB to {host}')
            opened += 1
    tcp = nothing_left(lab, process)['groups'][0]['tcp']
    check_equal(tcp['syn_cookies_accepted'], opened, 'cookies that came back')
    check(tcp['syn_cookies_sent'] >= opened, f'{tcp["syn_cookies_sent"]} cookies sent')


def shrinking_path(lab, blocked):
    """An echo whose way back shrinks to 1,000 octets in the middle; `blocked`: nobody is told."""
    server, router, client = routed(lab)
    if blocked:
        run(router.argv('nft', 'add table inet quiet; add chain inet quiet output { type filter hook output priority 0; };'
                        ' add rule inet quiet output icmp type destination-unreachable drop'))
    process = serve(lab, server, 'echo.toml', '--set', 'port.gateway=10.0.0.254')
    sock = client.connect('10.0.0.1', 7)
    size = 150 * MEGABYTE

    def shrink():
        time.sleep(0.4)
        router.ip('link', 'set', 'tg2', 'mtu', 1000)
        client.ip('link', 'set', 'tg3', 'mtu', 1000)

    shrinking = threading.Thread(target=shrink)
    shrinking.start()
    result = exchange(sock, size, seed=5, seconds=60)
    shrinking.join()
    intact(result, size, '150 MB')
    rate(f'echo of 150 MB over a path that shrinks{", with ICMP blocked" if blocked else ""}', size / result[3] / MEGABYTE,
         'MB/s each way')
    summary = nothing_left(lab, process)
    return summary['groups'][0]['tcp']


@case('the path MTU shrinks in the middle of a connection: the router says so')
def path_mtu(lab):
    counters = shrinking_path(lab, blocked=False)
    check(counters['path_mtu_lowered'] >= 1, f'{counters["path_mtu_lowered"]} times lowered')


@case('the path MTU shrinks and nobody says so: the black hole is found')
def black_hole(lab):
    counters = shrinking_path(lab, blocked=True)
    note(f'counters {counters}')
    check(counters['path_mtu_black_holes'] >= 1, f'{counters["path_mtu_black_holes"]} black holes found')


if __name__ == '__main__':
    main()
