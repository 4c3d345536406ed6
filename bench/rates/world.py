"""What the cases run in: programs with a CPU, a time limit and their output in files; huge pages; the machine's
description.

rates.sh starts us in namespaces of our own when it may (root), so nothing is left however we end."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

libc = ctypes.CDLL(None, use_errno=True)
INSIDE = 'TIDEGATE_RATES_INSIDE'


class Failed(Exception):
    """A case could not be measured."""


def die_with_parent():
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL)


class Program:
    """A program beside us. Its output goes to files, so that nothing blocks on a pipe."""

    def __init__(self, folder, name, argv, cpus=None, **more):
        argv = [str(a) for a in argv]
        if cpus is not None:
            argv = ['taskset', '-c', ','.join(map(str, cpus))] + argv
        self.name, self.argv = name, argv
        self.out_path, self.err_path = folder / f'{name}.out', folder / f'{name}.err'
        with open(self.out_path, 'wb') as out, open(self.err_path, 'wb') as err:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          preexec_fn=die_with_parent, **more)

    @property
    def out(self):
        return self.out_path.read_text(errors='replace')

    @property
    def err(self):
        return self.err_path.read_text(errors='replace')

    def why(self):
        said = [*self.out.splitlines()[-8:], *self.err.splitlines()[-8:]]
        return '\n'.join([f'{self.name}: {" ".join(self.argv)}', *said])

    def wait_for(self, pattern, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(pattern, self.out + self.err, re.MULTILINE):
                return
            if self.popen.poll() is not None:
                raise Failed(f'ended with {self.popen.returncode} before it said {pattern!r}: {self.why()}')
            time.sleep(0.05)
        raise Failed(f'did not say {pattern!r} within {seconds} s: {self.why()}')

    def wait(self, seconds, wanted=0):
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f'did not end within {seconds:.0f} s: {self.why()}') from None
        if wanted is not None and code != wanted:
            raise Failed(f'ended with {code}: {self.why()}')
        return code

    def stop(self, seconds=30, wanted=None):
        """SIGTERM, and the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.wait(seconds, wanted)

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise Failed(f'no JSON from {self.why()}: {error}') from None


class World:
    """Where one measurement happens; a context manager a case runs in."""

    def __init__(self, build, cpus, seconds, quick, huge, options):
        self.build, self.seconds, self.quick, self.huge, self.options = build, seconds, quick, huge, options
        self.server_cpu, self.client_cpu = cpus
        self.root = os.geteuid() == 0
        self.folder = None
        self.programs = []

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='tidegate-rates-'))
        return self

    def __exit__(self, *_):
        for program in reversed(self.programs):
            program.kill()
        self.programs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def another(self):
        """One like this, for a measurement inside a measurement."""
        return World(self.build, (self.server_cpu, self.client_cpu), self.seconds, self.quick, self.huge, self.options)

    def start(self, name, *argv, **more):
        program = Program(self.folder, name, argv, **more)
        self.programs.append(program)
        return program

    def run(self, name, *argv, seconds=60, wanted=0, **more):
        """To its end."""
        program = self.start(name, *argv, **more)
        program.wait(seconds, wanted)
        return program

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    @property
    def tidegate(self):
        return self.build / 'app' / 'tidegate'

    @property
    def whole_path(self):
        return self.build / 'bench' / 'path' / 'whole_path'


@contextlib.contextmanager
def huge_pages(megabytes):
    """Reserves 2 MiB pages for the time being; yields whether there are as many. Hugetlbfs is mounted where DPDK looks
    for it, in our own mount namespace."""
    setting = pathlib.Path('/proc/sys/vm/nr_hugepages')
    if os.geteuid() != 0 or megabytes == 0 or INSIDE not in os.environ:
        yield False
        return
    before = setting.read_text().strip()
    wanted = megabytes // 2
    try:
        setting.write_text(str(max(wanted, int(before))))
        mounted = subprocess.run('mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages', shell=True,
                                 capture_output=True, check=False).returncode == 0
        yield mounted and int(setting.read_text()) >= wanted
    finally:
        setting.write_text(before)


def machine():
    """What a reader must know of it. No names: neither the host's nor anybody's."""
    def first(path, pattern):
        found = re.search(pattern, pathlib.Path(path).read_text(errors='replace'), re.MULTILINE)
        return found.group(1).strip() if found else None

    def said(*argv):
        try:
            return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ''
    return {
        'cpu': first('/proc/cpuinfo', r'^model name\s*: (.*)$'),
        'cpus': len(os.sched_getaffinity(0)),
        'memory_gib': round(int(first('/proc/meminfo', r'^MemTotal:\s+(\d+)')) / 2**20, 1),
        'virtual': bool(first('/proc/cpuinfo', r'^flags.*\b(hypervisor)\b')),
        'kernel': os.uname().release,
        'dpdk': said('pkg-config', '--modversion', 'libdpdk'),
        'compiler': said('g++', '-dumpfullversion'),
        'load_at_start': os.getloadavg()[0],
    }


def hardware_counters():
    """Whether this machine counts instructions: many virtual ones do not."""
    try:
        done = subprocess.run(['perf', 'stat', '-x,', '-e', 'instructions:u', 'true'], capture_output=True, text=True,
                              check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and re.search(r'^\d+,', done.stderr, re.MULTILINE) is not None
