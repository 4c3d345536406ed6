"""The laboratory of the end-to-end tests: network namespaces, wires between them, programs in them, and checks.

A test file is run as `FILE.py TIDEGATE_PROGRAM SOURCE_ROOT [CASE...]`; it registers its cases with @case and ends with
main(). The whole file runs in mount, network and process namespaces of its own (unshare(1)), so whatever happens to it,
even SIGKILL, no namespace, device, socket file or process is left, and no packet leaves it. A case that checked nothing
fails. Output is TAP; `# rate` lines carry what was measured.
"""
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

INSIDE = 'TIDEGATE_E2E_INSIDE'
libc = ctypes.CDLL(None, use_errno=True)
cases = []
checks_done = 0


class Failed(Exception):
    """A check did not hold."""


def check(good, what):
    """Counts as one assertion of the running case."""
    global checks_done
    checks_done += 1
    if not good:
        raise Failed(what)


def check_equal(got, wanted, what):
    check(got == wanted, f'{what}: {got!r} instead of {wanted!r}')


def note(text):
    for line in str(text).splitlines():
        print(f'# {line}', flush=True)


def rate(what, per_second, unit='connections/s'):
    note(f'rate {what}: {per_second:,.0f} {unit}')


def case(description):
    def register(function):
        cases.append((description, function))
        return function
    return register


def die_with_parent():
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL)


class Process:
    """A program that runs beside the test. Its output goes to files, so nothing ever blocks on a pipe."""

    def __init__(self, name, argv, folder):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.out_path, self.err_path = folder / f'{name}.out', folder / f'{name}.err'
        with open(self.out_path, 'wb') as out, open(self.err_path, 'wb') as err:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          preexec_fn=die_with_parent)

    @property
    def out(self):
        return self.out_path.read_text(errors='replace')

    @property
    def err(self):
        return self.err_path.read_text(errors='replace')

    def running(self):
        return self.popen.poll() is None

    def tail(self):
        return '\n'.join([f'{self.name}: {" ".join(self.argv)}', *self.out.splitlines()[-25:],
                          *self.err.splitlines()[-25:]])

    def wait_for(self, pattern, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(pattern, self.out + self.err, re.MULTILINE):
                return
            if not self.running():
                raise Failed(f'{self.name} ended with {self.popen.returncode} before it said {pattern!r}')
            time.sleep(0.05)
        raise Failed(f'{self.name} did not say {pattern!r} within {seconds} s')

    def wait(self, seconds):
        """The exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f'{self.name} did not end within {seconds} s') from None

    def stop(self, seconds=15):
        """SIGTERM, and the exit code."""
        self.popen.terminate()
        return self.wait(seconds)

    def kill(self):
        if self.running():
            self.popen.kill()
            self.popen.wait()

    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise Failed(f'{self.name} did not end with JSON on standard output: {error}') from None


class Namespace:
    """A network namespace by name; `with ns.entered():` makes sockets in it."""

    def __init__(self, name):
        self.name = name
        ip('netns', 'add', name)
        self.ip('link', 'set', 'lo', 'up')
        # Nothing but what a test sends itself, and addresses usable at once.
        self.sysctl('net.ipv6.conf.default.accept_dad', 0)
        self.sysctl('net.ipv6.conf.default.accept_ra', 0)
        self.sysctl('net.ipv6.conf.default.router_solicitations', 0)
        self.sysctl('net.ipv4.ip_local_port_range', '1024 65535')

    def argv(self, *words):
        """ip-netns replaces itself with the program, so the pid stays the same."""
        return ['ip', 'netns', 'exec', self.name, *map(str, words)]

    def ip(self, *words):
        ip('-n', self.name, *words)

    def sysctl(self, key, value):
        run(self.argv('sysctl', '-q', '-w', f'{key}={value}'))

    @contextlib.contextmanager
    def entered(self):
        """This thread is in the namespace meanwhile; a socket stays where it was made."""
        with open('/proc/thread-self/ns/net') as here, open(f'/run/netns/{self.name}') as there:
            self._setns(there)
            try:
                yield self
            finally:
                self._setns(here)

    @staticmethod
    def _setns(file):
        clone_newnet = 0x40000000
        if libc.setns(file.fileno(), clone_newnet) != 0:
            raise OSError(ctypes.get_errno(), 'setns')

    def connect(self, host, port, seconds=10, **options):
        """A connected TCP socket of this namespace."""
        with self.entered():
            sock = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_STREAM)
        for name, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        sock.settimeout(seconds)
        sock.connect((host, port))
        return sock


def run(argv, seconds=20, wanted=0):
    """A program that is expected to end by itself; returns it with its output as text."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, text=True,
                              errors='replace', check=False, preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired as late:
        raise Failed(f'`{" ".join(argv)}` did not end within {seconds} s: {late.stdout} {late.stderr}') from None
    if wanted is not None and done.returncode != wanted:
        raise Failed(f'`{" ".join(argv)}` ended with {done.returncode} instead of {wanted}:\n'
                     f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}')
    return done


def ip(*words):
    run(['ip', *words])


class Lab:
    """The namespaces and processes of one case; everything goes when it is left."""
    program = None
    root = None

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='tidegate-e2e-'))
        self.namespaces = []
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for process in self.processes:
                note(process.tail())
        for process in self.processes:
            process.kill()
        for namespace in self.namespaces:
            with contextlib.suppress(Failed):
                ip('netns', 'del', namespace.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def namespace(self, name):
        self.namespaces.append(Namespace(f'tg-{os.getpid()}-{len(self.namespaces)}-{name}'))
        return self.namespaces[-1]

    def veth(self, a, a_name, b, b_name, a_offloads=False, b_offloads=False):
        """A wire between two namespaces. Large-packet offloads are off at both ends: a DPDK program takes frames as a
        wire would carry them. Checksums are finished before the wire too unless the offloads are asked for."""
        ip('link', 'add', a_name, 'netns', a.name, 'type', 'veth', 'peer', 'name', b_name, 'netns', b.name)
        for end, name, offloads in ((a, a_name, a_offloads), (b, b_name, b_offloads)):
            run(end.argv('ethtool', '-K', name, 'tso', 'off', 'gso', 'off', 'gro', 'off',
                         'tx', 'on' if offloads else 'off'))
            end.ip('link', 'set', name, 'up')

    def pair(self, offloads=True):
        """Two namespaces on one wire: `server`, whose end tg0 has no kernel addresses, and `client` with tg1."""
        server, client = self.namespace('server'), self.namespace('client')
        for key in ('default', 'all'):
            server.sysctl(f'net.ipv6.conf.{key}.disable_ipv6', 1)
        self.veth(server, 'tg0', client, 'tg1', b_offloads=offloads)
        client.ip('addr', 'add', '10.0.0.2/24', 'dev', 'tg1')
        client.ip('addr', 'add', 'fd00::2/64', 'dev', 'tg1', 'nodad')
        return server, client

    def start(self, namespace, name, *argv):
        process = Process(name, namespace.argv(*argv), self.folder)
        self.processes.append(process)
        return process

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def tidegate(self, namespace, *words, seconds=20, wanted=0):
        """A run of the program that ends by itself."""
        return run(namespace.argv(self.program, *words), seconds, wanted)

    def serve(self, namespace, config, *words, name='serve', seconds=15):
        """`tidegate serve` with a profile of config/ (or a path), ready for connections."""
        path = config if isinstance(config, pathlib.Path) else self.root / 'config' / config
        process = self.start(namespace, name, self.program, 'serve', '-c', path, '--json', '--quiet', *words)
        process.wait_for('^ready$', seconds)
        return process

    def ends_well(self, server, seconds=15, device_keeps=False):
        """Stops a server and returns its summary: it must end with 0, call the run good and have lost no buffer. Some
        drivers keep those in their rings."""
        check_equal(server.stop(seconds), 0, f'exit code of {server.name} after SIGTERM')
        summary = server.json()
        check(summary['good'], f'{server.name} has problems: {summary["problems"]}')
        check_equal(summary['leaked_packet_buffers'], 0, 'packet buffers lost')
        if not device_keeps:
            check_equal(summary['packet_buffers_kept_by_devices'], 0, 'packet buffers kept by a driver')
        return summary

    def netstat(self, namespace, *words, prefix='tidegate'):
        return json.loads(self.tidegate(namespace, 'netstat', '--file-prefix', prefix, '--json', *words).stdout)


def service_counter(summary, name):
    """A counter of a service, summed over the groups and services that have it."""
    return sum(value for key, value in summary['services'].items() if key.endswith(f' {name}'))


def wait_until(condition, seconds, what):
    """Polls; counts as an assertion."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            check(False, f'not within {seconds} s: {what}')
        time.sleep(0.05)
    check(True, what)


def exchange(sock, size, seed=1, read_after=0.0, seconds=120):
    """Sends `size` random octets, half-closes, and reads what comes back until the end, both at once.

    Returns (SHA-256 sent, SHA-256 received, octets received, seconds)."""
    source = random.Random(seed)
    sent, received = hashlib.sha256(), hashlib.sha256()
    count = 0
    failure = []
    sock.settimeout(seconds)
    start = time.monotonic()

    def send():
        try:
            left = size
            while left > 0:
                piece = source.randbytes(min(left, 1 << 18))
                sock.sendall(piece)
                sent.update(piece)
                left -= len(piece)
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            failure.append(f'sending: {error}')

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    time.sleep(read_after)
    try:
        while piece := sock.recv(1 << 18):
            received.update(piece)
            count += len(piece)
            if time.monotonic() - start > seconds:
                failure.append(f'{count} of {size} octets came back within {seconds} s')
                break
    except OSError as error:
        failure.append(f'receiving after {count} of {size} octets: {error}')
    took = time.monotonic() - start
    if failure:
        sock.close()
    sender.join(5)
    check(not failure, '; '.join(failure))
    return sent.hexdigest(), received.hexdigest(), count, took


def isolate():
    """Goes on in namespaces of our own, or ends loudly when the machine does not let us."""
    if os.environ.get('TIDEGATE_E2E') == 'off':
        print('1..0 # SKIP TIDEGATE_E2E=off', flush=True)
        sys.exit(0)
    if os.environ.get(INSIDE) == '1':
        # Namespaces by name and telemetry sockets that only we see.
        for folder in ('/run/netns', '/run/dpdk'):
            os.makedirs(folder, exist_ok=True)
            subprocess.run(['mount', '-t', 'tmpfs', 'tidegate-e2e', folder], check=True)
        return
    reason = 'end-to-end tests make network namespaces and so must be run as root' if os.getuid() != 0 else ''
    if not reason:
        probe = subprocess.run(['unshare', '--mount', '--net', '--pid', '--fork', '--mount-proc', 'true'],
                               capture_output=True, text=True, check=False)
        reason = '' if probe.returncode == 0 else f'no namespaces on this machine: {probe.stderr.strip()}'
    if reason:
        print(f'1..1\nnot ok 1 - namespaces\n# {reason}; TIDEGATE_E2E=off leaves these tests out', flush=True)
        sys.exit(1)
    os.environ[INSIDE] = '1'
    os.execvp('unshare', ['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc',
                          sys.executable, *sys.argv])


def main():
    global checks_done
    isolate()
    Lab.program, Lab.root = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    chosen = [(d, f) for d, f in cases if len(sys.argv) < 4 or f.__name__ in sys.argv[3:]]
    print(f'1..{len(chosen)}', flush=True)
    failures = 0
    for number, (description, function) in enumerate(chosen, 1):
        checks_done = 0
        start = time.monotonic()
        try:
            with Lab() as lab:
                function(lab)
            if checks_done == 0:
                raise Failed('the case checked nothing')
            verdict = 'ok'
        except Failed as failed:
            verdict, why = 'not ok', str(failed)
        except Exception:  # A test that breaks is a test that fails, and the next one still runs.
            verdict, why = 'not ok', traceback.format_exc()
        if verdict != 'ok':
            note(why)
            # meson's logs drop what TAP calls a comment; what a test says on standard error they keep.
            print(f'{description}: {why}', file=sys.stderr, flush=True)
        failures += verdict != 'ok'
        note(f'{checks_done} checks, {time.monotonic() - start:.1f} s')
        print(f'{verdict} {number} - {description}', flush=True)
    sys.exit(1 if failures or not chosen else 0)
