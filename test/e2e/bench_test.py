"""`tidegate bench` and `tidegate demo`: against nginx on the Linux kernel, between two processes, and in one."""
import json
import os
import pathlib

from lab import case, check, check_equal, main, note, rate, run, service_counter, wait_until

NGINX = '''
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  server {{
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096 ipv6only=on;
    location / {{ return 200 "ok\\n"; }}
  }}
}}
'''


def nginx(lab, namespace):
    """nginx in the foreground, with nothing of the machine's own installation but the program."""
    config = lab.write('nginx.conf', NGINX.format(folder=lab.folder))
    process = lab.start(namespace, 'nginx', 'nginx', '-p', lab.folder, '-c', config)
    wait_until(lambda: ':80' in run(namespace.argv('ss', '-Hltn')).stdout, 10, 'nginx listens')
    return process


def bench(lab, namespace, what, connections, *words, profile='bench-af_packet.toml', requests=1, seconds=90):
    """One run that must lose nothing; returns its summary."""
    done = lab.tidegate(namespace, 'bench', '-c', lab.root / 'config' / profile, '--json', '--quiet', '--connections',
                        connections, '--seconds', seconds - 30, *words, seconds=seconds, wanted=None)
    check_equal(done.returncode, 0, f'{what}: exit code; {done.stderr[-1500:]}{done.stdout[-3000:]}')
    summary = json.loads(done.stdout)
    check(summary['good'], f'{what}: {summary["problems"]}')
    check_equal(summary['failures'], {}, f'{what}: failures')
    check_equal((summary['opened'], summary['closed']), (connections, connections), f'{what}: opened and closed')
    check_equal(summary['requests'], connections * requests, f'{what}: requests')
    check_equal(summary['leaked_packet_buffers'], 0, f'{what}: packet buffers lost')
    for name, times in summary['latency_ns'].items():
        check(0 < times['p50'] <= times['p99'] <= times['max'], f'{what}: {name} takes some time: {times}')
    latency = {k: f'{v["p50"] / 1e3:.0f}/{v["p99"] / 1e3:.0f} us' for k, v in summary['latency_ns'].items()}
    note(f'{what}: {summary["retransmits"]} retransmits, {summary["packets_per_connection"]:.2f} packets a connection, '
         f'p50/p99 {latency}')
    rate(f'{what}', summary['rate_per_s'])
    return summary


@case('bench against nginx on the kernel: close, keep-alive, client closes first, IPv6')
def against_nginx(lab):
    client, server = lab.namespace('client'), lab.namespace('server')
    for key in ('default', 'all'):
        client.sysctl(f'net.ipv6.conf.{key}.disable_ipv6', 1)
    lab.veth(client, 'tg0', server, 'tg1', b_offloads=True)
    server.ip('addr', 'add', '10.0.0.1/8', 'dev', 'tg1')
    server.ip('addr', 'add', 'fd00::1/64', 'dev', 'tg1', 'nodad')
    server.sysctl('net.core.somaxconn', 4096)
    web = nginx(lab, server)
    total = 0
    for what, connections, requests, words in (
            ('Connection: close, the server closes first', 60_000, 1, ()),
            ('Connection: close, the client closes first', 35_000, 1, ('--close', 'client')),
            ('keep-alive, ten requests a connection', 6000, 10, ('--requests', 10)),
            ('over IPv6', 3000, 1, ('--set', 'port.addresses=fd00::2/64', '--set', 'port.ranges=fd00::1:0+16'))):
        target = '[fd00::1]:80' if 'IPv6' in what else '10.0.0.1:80'
        summary = bench(lab, client, f'af_packet, bench against nginx, {what}', connections, '--target', target,
                        '--set', 'limits.time_wait=100k', '--set', 'limits.time_wait_v6=8k', *words, requests=requests)
        total += summary['closed']
    check(total >= 100_000, f'{total} connections in all')
    check(web.running(), 'nginx still runs')
    web.stop()


@case('bench again over the same tuples, which the server still has in TIME-WAIT')
def same_tuples(lab):
    client, server = lab.namespace('client'), lab.namespace('server')
    for key in ('default', 'all'):
        client.sysctl(f'net.ipv6.conf.{key}.disable_ipv6', 1)
    lab.veth(client, 'tg0', server, 'tg1', b_offloads=True)
    server.ip('addr', 'add', '10.0.0.1/8', 'dev', 'tg1')
    server.sysctl('net.core.somaxconn', 4096)
    nginx(lab, server)
    # Every tuple there is, each time; whether the second run's numbers look newer to Linux is a matter of chance.
    words = ('--target', '10.0.0.1:80', '--set', 'port.ranges=10.1.0.0+2', '--set', 'bench.source_ports=2001-4000')
    for what in ('first', 'second'):
        summary = bench(lab, client, f'af_packet, the {what} run over 4,000 tuples', 4000, *words)
        check(summary['latency_ns']['connection']['max'] < 900e6, f'a connection waited for a timeout: {summary}')
    check(summary['groups'][0]['drops'].get('tcp_bad_ack', 0) > 500, 'no tuple was in TIME-WAIT')


@case('bench on net_tap against nginx on the kernel')
def against_nginx_over_tap(lab):
    host = lab.namespace('host')
    host.sysctl('net.core.somaxconn', 4096)
    nginx(lab, host)
    connections = 12_000
    process = lab.start(host, 'bench', lab.program, 'bench', '-c', lab.root / 'config' / 'bench-tap.toml', '--json',
                        '--quiet', '--target', '10.0.0.1:80', '--connections', connections, '--seconds', 40,
                        '--set', 'limits.time_wait=1k')
    # The device is there once the program runs; as in the profile's first lines.
    wait_until(lambda: run(host.argv('ip', 'link', 'show', 'tg1'), wanted=None).returncode == 0, 10, 'the tap is there')
    host.ip('addr', 'add', '10.0.0.1/8', 'dev', 'tg1')
    host.ip('link', 'set', 'tg1', 'up')
    check_equal(process.wait(60), 0, f'exit code; {process.tail()}')
    summary = process.json()
    check_equal((summary['closed'], summary['failures']), (connections, {}), 'closed and failed')
    rate('tap, bench against nginx, Connection: close', summary['rate_per_s'])


def check_even(summary, rate_per_s, seconds, least, late):
    """Time is up when the main thread notices, which on a busy machine takes some time more: then there are more."""
    closed, took = summary['closed'], summary['seconds']
    check(took >= seconds, f'it took {took} s instead of {seconds}')
    check(least <= closed <= (took + late) * rate_per_s,
          f'{closed} connections instead of {rate_per_s} a second for {took} s')


@case('bench against an even rate: as many as asked for, evenly')
def even_rate(lab):
    client, server = lab.namespace('client'), lab.namespace('server')
    lab.veth(client, 'tg0', server, 'tg1', b_offloads=True)
    server.ip('addr', 'add', '10.0.0.1/8', 'dev', 'tg1')
    server.ip('addr', 'add', 'fd00::1/64', 'dev', 'tg1', 'nodad')
    nginx(lab, server)
    done = lab.tidegate(client, 'bench', '-c', lab.root / 'config' / 'bench-af_packet.toml', '--json', '--quiet',
                        '--target', '10.0.0.1:80', '--rate', '1k', '--seconds', 4, seconds=40)
    summary = json.loads(done.stdout)
    check(summary['good'], summary['problems'])
    check_even(summary, 1000, 4, least=3900, late=0.3)


def memif_profile(lab, name, role, more=''):
    """The profile as it is, but with a socket of the test's own."""
    vdev = f'net_memif0,role={role},id=0,socket-abstract=no,socket={lab.folder / "memif.sock"}'
    text = (lab.root / 'config' / name).read_text()
    lines = [line for line in text.splitlines() if not line.startswith(('[eal]', 'vdevs', '#'))]
    return lab.write(name, f'[eal]\nvdevs = ["{vdev}{more}"]\n' + '\n'.join(lines) + '\n')


def two_processes(lab, what, connections, *words, serve_words=(), requests=1):
    host = lab.namespace('host')
    server = lab.serve(host, memif_profile(lab, 'http-memif.toml', 'server'), '--set', 'limits.time_wait=400k',
                       *serve_words)
    summary = bench(lab, host, what, connections, *words, profile=memif_profile(lab, 'bench-memif.toml', 'client'),
                    requests=requests)
    ended = lab.ends_well(server)
    check_equal(ended['opened'], connections, 'connections the server counted')
    check_equal(service_counter(ended, 'http requests'), connections * requests, 'requests the server counted')
    check_equal(ended['groups'][0]['connections_left'], 0, 'connections the server still has')
    return summary, ended


@case('two processes over net_memif: 200,000 connections, none lost')
def memif(lab):
    two_processes(lab, 'memif, bench against serve, Connection: close', 200_000, '--concurrency', 128)


@case('two processes over net_memif: sixteen thousand at once, offered more than they carry')
def memif_overload(lab):
    summary, ended = two_processes(lab, 'memif, 16 thousand at once', 100_000, '--concurrency', '16k', '--rate', '3m')
    # What cannot go at once waits, for the device or for the answer to a question of ARP.
    for end in (summary, ended):
        for group in end['groups']:
            for name in ('transmit_queue_full', 'neighbour_unresolved'):
                check_equal(group['drops'].get(name, 0), 0, f'{group["name"]}: {name}')


@case('bench waits for its peer over net_memif, and the peer sends and receives without copies')
def memif_waits(lab):
    host = lab.namespace('host')
    client = lab.start(host, 'bench', lab.program, 'bench', '-c', memif_profile(lab, 'bench-memif.toml', 'server'),
                       '--json', '--connections', 100_000, '--seconds', 40, '--set', 'port.link_wait_ms=30s')
    client.wait_for('waiting for the peer of net_memif0', 10)
    server = lab.serve(host, memif_profile(lab, 'http-memif.toml', 'client', ',zero-copy=yes'),
                       '--', '--single-file-segments')
    check_equal(client.wait(60), 0, f'exit code; {client.tail()}')
    summary = client.json()
    check_equal((summary['closed'], summary['failures'], summary['retransmits']), (100_000, {}, 0),
                'closed, failed, sent again')
    ended = lab.ends_well(server, device_keeps=True)
    check_equal(ended['opened'], 100_000, 'connections the server counted')
    # What the shared rings hold is the driver's; with copies it would be none.
    check(ended['packet_buffers_kept_by_devices'] > 500, 'the server copied')
    rate('memif without copies at the server', summary['rate_per_s'])


@case('a server over net_memif outlives clients that are killed at full load')
def memif_departures(lab):
    host = lab.namespace('host')
    server = lab.serve(host, memif_profile(lab, 'http-memif.toml', 'server'), '--set', 'limits.time_wait=2m',
                       '--set', 'workers.drain_timeout_ms=100ms')
    profile = memif_profile(lab, 'bench-memif.toml', 'client')
    for number in range(1, 5):
        # Ports of its own, so that no tuple is one the server still has.
        client = lab.start(host, f'bench{number}', lab.program, 'bench', '-c', profile, '--concurrency', 512,
                           '--set', f'bench.source_ports={number * 10_000}-{number * 10_000 + 9999}')
        client.wait_for(r'1 s  opened', 20)
        client.kill()
        check(server.running(), f'the server is gone with client {number}: {server.tail()}')
    last = bench(lab, host, 'memif, after four departures', 20_000, '--set', 'bench.source_ports=60000-65000',
                 profile=profile)
    # The burst that was under way to the last one may be lost.
    p99 = last['latency_ns']['connection']['p99']
    check(p99 < 900e6, f'connections waited {p99 / 1e9:.1f} s for an address that is gone')
    # What the killed ones left open is reset at the end, or was by the next client, to whom it meant nothing.
    check_equal(server.stop(), 0, 'exit code')
    summary = server.json()
    check_equal(summary['problems'], [], 'problems')
    check_equal((summary['leaked_packet_buffers'], summary['packet_buffers_kept_by_devices']), (0, 0), 'buffers lost')


@case('bench ends with a remedy when nobody comes to the other end of its device')
def nobody_there(lab):
    done = lab.tidegate(lab.namespace('host'), 'bench', '-c', memif_profile(lab, 'bench-memif.toml', 'server'),
                        '--set', 'port.link_wait_ms=300ms', wanted=1)
    check('nobody came to the other end of net_memif0' in done.stderr and 'port.link_wait_ms' in done.stderr,
          done.stderr)


@case('a process ends well although the interrupt thread of EAL gets no CPU while its memory goes')
def late_interrupt_thread(lab):
    host = lab.namespace('host')
    profile = memif_profile(lab, 'bench-memif.toml', 'server')
    cpu = {max(os.sched_getaffinity(0))}
    hog = lab.start(host, 'hog', 'sh', '-c', 'while :; do :; done')
    os.sched_setaffinity(hog.popen.pid, cpu)
    for number in range(10):
        client = lab.start(host, f'bench{number}', lab.program, 'bench', '-c', profile, '--set',
                           'port.link_wait_ms=500ms')
        client.wait_for('waiting for the peer of net_memif0', 20)
        held_back = 0
        for thread in pathlib.Path(f'/proc/{client.popen.pid}/task').iterdir():
            tid = int(thread.name)
            os.sched_setaffinity(tid, cpu)
            # EAL calls it eal-intr-thread; after 23.07, dpdk-intr.
            if 'intr' in (thread / 'comm').read_text():
                os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0))
                held_back += 1
        check_equal(held_back, 1, 'interrupt threads')
        check_equal(client.wait(30), 1, f'exit code; {client.tail()}')


@case('two processes over net_memif: keep-alive')
def memif_keep_alive(lab):
    two_processes(lab, 'memif, bench against serve, ten requests a connection', 10_000, '--requests', 10,
                  '--concurrency', 64, requests=10)


def demo(lab, *words, seconds=60):
    done = lab.tidegate(lab.namespace('host'), 'demo', '--json', *words, seconds=seconds)
    summary = json.loads(done.stdout)
    check(summary['good'], summary['problems'])
    check_equal(summary['failures'], {}, 'failures')
    check_equal(summary['opened'], summary['closed'], 'opened and closed')
    check_equal(summary['leaked_packet_buffers'], 0, 'packet buffers lost')
    return summary


@case('the demo: five seconds, good by its own account')
def demo_seconds(lab):
    summary = demo(lab, '--seconds', 5)
    check(summary['closed'] > 10_000, f'{summary["closed"]} connections only')
    rate('demo, both sides in one process', summary['rate_per_s'])
    states = summary['groups'][0]['states_entered']
    check_equal(states['TIME-WAIT'], summary['closed'], 'the server closed first, so all its ends are in TIME-WAIT')


@case('the demo: IPv6, echo, an even rate, and two workers on one queue')
def demo_variants(lab):
    check_equal(demo(lab, '--connections', '20k', '--ipv6')['closed'], 20_000, 'connections over IPv6')
    check_equal(demo(lab, '--connections', '500', '--service', 'echo', '--payload', '64k')['closed'], 500, 'echoes')
    check_equal(demo(lab, '--connections', '20k', '--service', 'discard')['closed'], 20_000, 'discards')
    check_even(demo(lab, '--rate', '5k', '--seconds', 2), 5000, 2, least=9900, late=0.1)
    summary = demo(lab, '--server-workers', 2, '--client-workers', 2, '--queues', 1, '--connections', '20k')
    check_equal(summary['closed'], 20_000, 'connections of two workers each')
    check(all(g['mailbox_frames'] > 0 for g in summary['groups']), 'no frame went from worker to worker')


if __name__ == '__main__':
    main()
