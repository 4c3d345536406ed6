"""Wrong arguments, wrong configurations, machines that lack something, and a network that sends nonsense: each a clear
message and an exit code, or a counter. Nothing hangs, nothing crashes."""
import json
import socket
import struct
import zlib

from lab import case, check, check_equal, main, note, run

USAGE, BAD_RUN = 2, 1


def refused(lab, namespace, wanted, words, *mentions, seconds=20):
    """The program must end with this code, name what is wrong on standard error, and not crash."""
    what = ' '.join(map(str, words))
    done = lab.tidegate(namespace, *words, seconds=seconds, wanted=None)
    check_equal(done.returncode, wanted, f'`{what}`: exit code; {done.stderr}')
    for text in mentions:
        check(text in done.stderr, f'`{what}` does not mention {text!r}: {done.stderr}')
    note(f'{what[-60:]}: {done.stderr.strip().splitlines()[0][:150] if done.stderr.strip() else "(nothing)"}')
    return done


@case('arguments that make no sense')
def arguments(lab):
    host = lab.namespace('host')
    for words, mentions in (
            ((), ('subcommand',)), (('fly',), ('fly',)), (('serve',), ('--config',)),
            (('serve', '-c', 'x', '--sped'), ('--sped',)),
            (('bench',), ('bench.target',)), (('bench', '--target', 'here'), ('here', '--target')),
            (('demo', '--seconds', 'ten'), ('--seconds', 'ten')), (('demo', '--rate', '-5'), ('--rate',)),
            (('demo', '--service', 'gopher'), ('gopher', 'echo')), (('demo', '--queues', 9), ('--queues', '9')),
            (('netstat', '--state', 'asleep'), ('asleep', 'ESTABLISHED')), (('netstat', '--limit', 'x'), ('--limit',)),
            (('netstat', '--', '-l', '0'), ('EAL',)), (('check',), ('--config',))):
        refused(lab, host, USAGE, words, *mentions)
    for words in (('--help',), ('serve', '--help'), ('demo', '--help'), ('--version',)):
        check(lab.tidegate(host, *words).stdout.strip(), f'`{words}` says something')


@case('configurations with mistakes: file, line, setting, value')
def configurations(lab):
    host = lab.namespace('host')
    good = '[port]\naddresses = ["10.0.0.1/24"]\n[[listen]]\nport = 80\nservice = "http"\n'
    refused(lab, host, USAGE, ('serve', '-c', lab.folder / 'none.toml'), 'none.toml')
    for name, text, line, mentions in (
            ('unknown key', good + '[tcp]\nmms = 1460\n', 7, ('mms',)),
            ('unknown section', good + '[tpc]\nmss = 1460\n', 6, ('tpc',)),
            ('out of range', good + '[tcp]\nmsl_ms = 0\n', 7, ('tcp.msl_ms', '0')),
            ('wrong type', good + '[port]\n'.replace('[port]', '[limits]') + 'connections = "many"\n', 7, ('many',)),
            ('bad address', good.replace('10.0.0.1/24', '10.0.0.256/24'), 2, ('10.0.0.256/24', 'port.addresses')),
            ('no service', good.replace('"http"', '"gopher"'), 5, ('gopher',)),
            ('port too large', good.replace('80', '70000'), 4, ('70000',)),
            ('a lost file', good + '[service.http]\n[[service.http.responses]]\npath = "/"\nbody_file = "lost.html"\n',
             9, ('lost.html',)),
            ('not TOML', good + 'this is no TOML\n', 6, ()),
            ('no listener', '[port]\naddresses = ["10.0.0.1/24"]\n', None, ('listen',))):
        path = lab.write('bad.toml', text)
        where = 'bad.toml' if line is None else f'bad.toml:{line}'
        note(name)
        refused(lab, host, USAGE, ('serve', '-c', path), where, *mentions)
        if name != 'no listener':
            refused(lab, host, USAGE, ('check', '-c', path), where, *mentions)
    path = lab.write('good.toml', good)
    refused(lab, host, USAGE, ('serve', '-c', path, '--set', 'port.mtu=100'), 'port.mtu', '100', '576')
    refused(lab, host, USAGE, ('serve', '-c', path, '--set', 'port.mut=1500'), 'port.mut')
    refused(lab, host, USAGE, ('serve', '-c', path, '--set', 'nonsense'), 'nonsense')
    report = json.loads(lab.tidegate(host, 'check', '-c', path, '--json').stdout)
    check(report['good'] and report['runs']['serve']['total_bytes'] > 0, 'a good file is good')
    path = lab.write('bad.toml', good + '[tcp]\nmms = 1460\n')
    report = json.loads(lab.tidegate(host, 'check', '-c', path, '--json', wanted=USAGE).stdout)
    check_equal((report['good'], report['errors'][0]['line']), (False, 7), 'the report of a bad file')


@case('devices that are missing, of the wrong kind, or taken')
def devices(lab):
    server, _ = lab.pair()
    profiles = lab.root / 'config'
    refused(lab, server, BAD_RUN, ('serve', '-c', profiles / 'http-af_packet.toml', '--set', 'port.device=net_nope7'),
            'net_nope7', 'port.device')
    refused(lab, server, BAD_RUN, ('serve', '-c', profiles / 'http-af_packet.toml', '--set',
                                   'eal.vdevs=net_af_packet0,iface=nope0'), 'nope0')
    refused(lab, server, BAD_RUN, ('serve', '-c', profiles / 'http-af_packet.toml', '--set',
                                   'eal.vdevs=net_nothing0'), 'net_nothing0')
    refused(lab, server, BAD_RUN, ('serve', '-c', profiles / 'echo.toml', '--', '--no-pci'), 'port.device')
    host = lab.namespace('host')
    first = lab.serve(host, 'http-tap.toml')
    refused(lab, host, BAD_RUN, ('serve', '-c', profiles / 'http-tap.toml'), 'net_tap0,iface=tg0', 'in use',
            str(first.popen.pid))
    check(first.running(), 'the first instance goes on')
    check_equal(lab.netstat(host)['pid'], first.popen.pid, 'the first instance answers')
    lab.ends_well(first)
    second = lab.serve(host, 'http-tap.toml', name='second')
    lab.ends_well(second)
    server.ip('link', 'set', 'tg0', 'up')
    first = lab.serve(server, 'http-af_packet.toml', name='third')
    refused(lab, server, BAD_RUN, ('bench', '-c', profiles / 'bench-af_packet.toml'), 'tg0', 'in use')
    lab.ends_well(first)


@case('a memif socket that another server has')
def memif_taken(lab):
    host = lab.namespace('host')
    words = ('serve', '-c', lab.root / 'config' / 'http-memif.toml', '--set',
             f'eal.vdevs=net_memif0,role=server,id=0,socket-abstract=no,socket={lab.folder}/s', '--set',
             'limits.time_wait=1k')
    first = lab.start(host, 'first', lab.program, *words, '--json')
    first.wait_for('listening on', 10)
    refused(lab, host, BAD_RUN, (*words, '--seconds', 2), 'memif')
    check(first.running(), 'the first instance goes on')
    lab.ends_well(first)


@case('too little memory')
def memory(lab):
    server, _ = lab.pair()
    profile = lab.root / 'config' / 'http-af_packet.toml'
    refused(lab, server, BAD_RUN, ('serve', '-c', profile, '--', '-m', 4), 'memory')
    refused(lab, server, BAD_RUN, ('serve', '-c', profile, '--set', 'eal.memory_mb=8'), 'memory')
    refused(lab, server, BAD_RUN, ('serve', '-c', profile, '--set', 'eal.memory_mb=1000000'), 'memory_mb')
    refused(lab, server, BAD_RUN, ('serve', '-c', profile, '--set', 'limits.connections=250m', '--set',
                                   'limits.time_wait=250m'), 'memory', 'limits.connections')
    # And what `tidegate check` says of it: it may be meant for another machine.
    large = lab.tidegate(server, 'check', '-c', profile, '--set', 'limits.connections=250m', '--json')
    report = json.loads(large.stdout)
    check(report['runs']['serve']['total_bytes'] > 250e6 * 150, 'check adds up what it would need')


@case('EAL arguments that EAL does not take')
def eal_arguments(lab):
    server, _ = lab.pair()
    serve = ('serve', '-c', lab.root / 'config' / 'http-af_packet.toml', '--')
    refused(lab, server, BAD_RUN, (*serve, '--bogus-option'), '--bogus-option')
    refused(lab, server, BAD_RUN, (*serve, '-l', '0-7000'), '0-7000')
    refused(lab, server, BAD_RUN, (*serve, '-l', 'zero'), 'zero')


@case('nobody there: netstat without an instance, bench without a server')
def nobody(lab):
    client, server = lab.namespace('client'), lab.namespace('server')
    refused(lab, client, BAD_RUN, ('netstat',), 'tidegate')
    refused(lab, client, BAD_RUN, ('netstat', '--file-prefix', 'never-was'), 'never-was')
    lab.veth(client, 'tg0', server, 'tg1', b_offloads=True)
    server.ip('addr', 'add', '10.0.0.1/8', 'dev', 'tg1')
    bench = ('bench', '-c', lab.root / 'config' / 'bench-af_packet.toml', '--json', '--quiet', '--concurrency', 10,
             '--connections', 20)
    done = lab.tidegate(client, *bench, '--target', '10.0.0.1:80', seconds=30, wanted=BAD_RUN)
    failures = json.loads(done.stdout)['failures']
    check(sum(failures.values()) == 20 and any('refused' in name for name in failures), f'closed port: {failures}')
    done = lab.tidegate(client, *bench, '--target', '10.0.0.77:80', '--set', 'bench.connect_timeout_ms=2s', '--seconds',
                        '3', seconds=40, wanted=BAD_RUN)
    failures = json.loads(done.stdout)['failures']
    check(sum(failures.values()) >= 10, f'no such host: {failures}')


def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(payload, protocol=6, source='10.0.0.2', target='10.0.0.1', **fields):
    f = {'version': 4, 'words': 5, 'length': 20 + len(payload), 'fragment': 0, 'spoil': 0, **fields}
    header = struct.pack('!BBHHHBBH4s4s', f['version'] << 4 | f['words'], 0, f['length'], 1, f['fragment'], 64,
                         protocol, 0, socket.inet_aton(source), socket.inet_aton(target))
    return header[:10] + struct.pack('!H', checksum(header) ^ f['spoil']) + header[12:] + payload


def tcp(source='10.0.0.2', target='10.0.0.1', flags=2, port=80, offset=5, options=b'', spoil=0):
    head = struct.pack('!HHIIBBHHH', 5555, port, 1, 0, (offset + len(options) // 4) << 4, flags, 1000, 0, 0) + options
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack('!HH', 6, len(head))
    return head[:16] + struct.pack('!H', checksum(pseudo + head) ^ spoil) + head[18:]


@case('malformed packets: each is counted under its name, and the server goes on')
def malformed(lab):
    server, client = lab.pair(offloads=False)
    process = lab.serve(server, 'http-af_packet.toml', '--set', 'port.trust_rx_checksums=false')
    run(client.argv('curl', '-sS', '--max-time', 5, 'http://10.0.0.1/'))
    with client.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(('tg1', 0))
    neighbour = run(client.argv('ip', 'neigh', 'show', '10.0.0.1')).stdout
    target = bytes.fromhex(neighbour.split('lladdr ')[1].split()[0].replace(':', ''))
    source = raw.getsockname()[4][:6]

    def send(payload, ether_type=0x0800, to=target):
        raw.send(to + source + struct.pack('!H', ether_type) + payload)

    v6 = struct.pack('!IHBB16s16s', 6 << 28, 4, 6, 64, socket.inet_pton(socket.AF_INET6, 'fd00::2'),
                     socket.inet_pton(socket.AF_INET6, 'fd00::1'))
    # Not here: fragments and cut VLAN tags, which the kernel keeps from packet sockets.
    nonsense = {
        'ether_type_unknown': lambda: send(b'x' * 46, 0x9999),
        'not_our_mac': lambda: send(ipv4(tcp()), to=bytes.fromhex('02abcdef0001')),
        'arp_malformed': lambda: send(b'\0' * 46, 0x0806),
        'ipv4_truncated': lambda: send(ipv4(tcp())[:12]),
        'ipv4_bad_version': lambda: send(ipv4(tcp(), version=9)),
        'ipv4_bad_header_length': lambda: send(ipv4(tcp(), words=3)),
        'ipv4_bad_total_length': lambda: send(ipv4(tcp(), length=900)),
        'ipv4_bad_checksum': lambda: send(ipv4(tcp(), spoil=0x0101)),
        'ipv6_truncated': lambda: send(v6[:30], 0x86dd),
        'ipv6_bad_version': lambda: send(b'\x90' + v6[1:] + b'abcd', 0x86dd),
        'ip_protocol_unknown': lambda: send(ipv4(b'x' * 20, protocol=17)),
        'ip_not_our_address': lambda: send(ipv4(tcp(target='10.0.0.9'), target='10.0.0.9')),
        'tcp_truncated': lambda: send(ipv4(tcp()[:13])),
        'tcp_bad_data_offset': lambda: send(ipv4(tcp(offset=3))),
        'tcp_bad_checksum': lambda: send(ipv4(tcp(spoil=0x1111))),
        'tcp_bad_options': lambda: send(ipv4(tcp(options=b'\x02\x00\x05\xb4'))),
        'tcp_bad_flags': lambda: send(ipv4(tcp(flags=0x03))),
        'tcp_no_listener': lambda: send(ipv4(tcp(port=81))),
    }
    for name, one in nonsense.items():
        before = lab.netstat(server, '-s')['drops'].get(name, 0)
        for _ in range(3):
            one()
        for _ in range(40):
            after = lab.netstat(server, '-s')['drops'].get(name, 0)
            if after - before >= 3:
                break
        check_equal(after - before, 3, f'drops named {name}')
    # And what nobody thought of: a few thousand frames with octets changed at random (from a fixed seed).
    state = 1
    frames = [ipv4(tcp(flags=f)) for f in (2, 16, 17, 4, 24)]
    for i in range(5000):
        frame = bytearray(frames[i % len(frames)] + b'data' * (i % 50))
        for _ in range(1 + i % 6):
            state = zlib.crc32(struct.pack('!II', state, i))
            frame[state % len(frame)] = state >> 24
        send(bytes(frame[:20 + state % (len(frame) - 19)]))
    body = run(client.argv('curl', '-sS', '--max-time', 5, 'http://10.0.0.1/')).stdout
    check_equal(body, 'ok\n', 'the server still answers')
    summary = lab.ends_well(process)
    note(f'drops: {summary["groups"][0]["drops"]}')


if __name__ == '__main__':
    main()
