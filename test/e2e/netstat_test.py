"""`tidegate netstat` looks into a running server."""
import re
import time

from lab import case, check, check_equal, main, note, run, wait_until


def serve(lab, server, *words, profile='http-af_packet.toml', name='serve'):
    return lab.serve(server, profile, *words, name=name)


def hold(client, count, port=80):
    return [client.connect('10.0.0.1', port) for _ in range(count)]


@case('listeners, held connections and filters, as text and as JSON')
def rows(lab):
    server, client = lab.pair()
    process = serve(lab, server)
    socks = hold(client, 50)
    ports = {s.getsockname()[1] for s in socks}
    wait_until(lambda: lab.netstat(server)['states'].get('ESTABLISHED') == 50, 5, '50 ESTABLISHED')
    listing = lab.netstat(server)
    check_equal(listing['pid'], process.popen.pid, 'pid')
    by_state = {}
    for row in listing['connections']:
        by_state.setdefault(row['state'], []).append(row)
    check(by_state.get('LISTEN'), f'no LISTEN row: {sorted(by_state)}')
    check(all(row['local'].endswith(':80') for row in by_state['LISTEN']), f'LISTEN rows: {by_state["LISTEN"]}')
    check_equal({row['peer'] for row in by_state['ESTABLISHED']}, {f'10.0.0.2:{p}' for p in ports}, 'peers')
    check(all(row['local'] == '10.0.0.1:80' for row in by_state['ESTABLISHED']), 'local addresses')
    check(all(row['recv_q'] == 0 and row['send_q'] == 0 for row in by_state['ESTABLISHED']), 'nothing is queued')
    some = lab.netstat(server, '--state', 'established', '--limit', 20)
    check_equal((len(some['connections']), some['more']), (20, True), 'rows with --limit 20')
    check_equal(lab.netstat(server, '--state', 'fin-wait-2')['connections'], [], 'rows in FIN-WAIT-2')

    text = lab.tidegate(server, 'netstat').stdout
    check_equal(len(re.findall(r'^ESTABLISHED +0 +0 +10\.0\.0\.1:80 +10\.0\.0\.2:\d+$', text, re.MULTILINE)), 50,
                f'ESTABLISHED lines of\n{text}')
    check_equal(len(re.findall(r'^LISTEN .*:80\b', text, re.MULTILINE)) > 0, True, 'a LISTEN line')
    for sock in socks:
        sock.close()
    wait_until(lambda: lab.netstat(server)['states'].get('ESTABLISHED', 0) == 0, 5, 'all gone')
    lab.ends_well(process)


@case('TIME-WAIT is counted, listed, and over after 2MSL')
def time_wait(lab):
    server, client = lab.pair()
    process = serve(lab, server, '--set', 'tcp.msl_ms=2s')
    run(client.argv('ab', '-q', '-n', 200, '-c', 10, 'http://10.0.0.1/'))
    done = time.monotonic()
    check_equal(lab.netstat(server)['states'].get('TIME-WAIT'), 200, 'connections in TIME-WAIT')
    check_equal(len(lab.netstat(server, '--state', 'time-wait')['connections']), 200, 'rows in TIME-WAIT')
    time.sleep(max(0.0, done + 2.5 - time.monotonic()))
    check_equal(lab.netstat(server)['states'].get('TIME-WAIT'), 200, 'still there before 2MSL is over')
    wait_until(lambda: lab.netstat(server)['states'].get('TIME-WAIT', 0) == 0, 4, 'TIME-WAIT ends')
    took = time.monotonic() - done
    check(3.5 < took < 6, f'TIME-WAIT lasted {took:.1f} s instead of 4')
    lab.ends_well(process)


@case('the summary: counters and drops add up to what happened')
def summary(lab):
    server, client = lab.pair()
    process = serve(lab, server)
    run(client.argv('ab', '-q', '-n', 300, '-c', 10, 'http://10.0.0.1/'))
    run(client.argv('curl', '-s', '--max-time', 3, 'http://10.0.0.1:81/'), wanted=7)
    answer = lab.netstat(server, '--summary')
    check_equal(sorted(answer), ['counters', 'drops', 'pid', 'states', 'summary'], 'sections')
    # ab may open a connection more than it needs in the end.
    accepted = answer['counters']['accepted']
    check(300 <= accepted <= 309, f'{accepted} accepted instead of 300')
    check_equal(answer['drops']['tcp_no_listener'], 1, 'SYN to a port without listener')
    check(300 <= answer['states']['TIME-WAIT'] <= accepted, f'{answer["states"]} instead of 300 in TIME-WAIT')
    text = lab.tidegate(server, 'netstat', '-s').stdout
    check(re.search(r'tcp_no_listener +1$', text, re.MULTILINE), f'drops in the text: {text}')
    lab.ends_well(process)


@case('watching a busy server, many times, does not disturb it')
def under_load(lab):
    server, client = lab.pair()
    process = serve(lab, server, '--set', 'limits.time_wait=200k')
    load = lab.start(client, 'ab', 'ab', '-q', '-n', 20_000, '-c', 50, 'http://10.0.0.1/')
    looks = 0
    while load.running() and looks < 200:
        listing = lab.netstat(server, '--limit', 100_000)
        check(all(row['local'].endswith(':80') for row in listing['connections']), 'every row is of port 80')
        looks += 1
    check_equal(load.wait(60), 0, 'exit code of ab')
    check('Failed requests:        0' in load.out, load.out)
    check(looks > 3, f'{looks} looks only')
    note(f'{looks} looks during the load')
    check(lab.ends_well(process)['opened'] >= 20_000, 'connections')


@case('several instances are told apart by file prefix')
def instances(lab):
    one, two = lab.namespace('one'), lab.namespace('two')
    first = lab.serve(one, 'http-tap.toml', '--set', 'eal.file_prefix=first', name='first')
    second = lab.serve(two, 'http-tap.toml', '--set', 'eal.file_prefix=second', name='second')
    check_equal(lab.netstat(one, prefix='first')['pid'], first.popen.pid, 'pid of the first')
    check_equal(lab.netstat(one, prefix='second')['pid'], second.popen.pid, 'pid of the second')
    lab.ends_well(first)
    check_equal(lab.netstat(one, prefix='second')['pid'], second.popen.pid, 'the second after the first ended')
    lab.ends_well(second)


if __name__ == '__main__':
    main()
