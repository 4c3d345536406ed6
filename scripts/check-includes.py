#!/usr/bin/env python3
"""Holds the include direction of lib/ (see lib/meson.build) and keeps rte_* headers inside lib/dpdk.

  scripts/check-includes.py [ROOT]        exits 1 and names each line that breaks a rule
  scripts/check-includes.py --self-test   proves that each rule can fail
"""
import pathlib
import re
import sys
import tempfile

# A module may include itself and the modules named here. wire, table and timer never see each other.
CORE = ['base', 'wire', 'table', 'timer', 'tcp', 'stack', 'service']
MAY_INCLUDE = {
    'base': [],
    'wire': ['base'],
    'table': ['base'],
    'timer': ['base'],
    'tcp': CORE[:4],
    'stack': CORE[:5],
    'service': CORE[:6],
    'socket': CORE[:6],
    'sim': CORE,
    'dpdk': CORE + ['socket'],
}
TREES = ['lib', 'app', 'bench', 'test']
SUFFIXES = {'.hh', '.cc', '.h', '.cpp', '.c'}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def violations_in(root, path):
    """The broken rules of one file, as 'path:line: text'."""
    place = path.relative_to(root).parts
    module = place[1] if place[0] == 'lib' and len(place) > 2 else None
    if place[0] == 'lib' and len(place) > 2 and module not in MAY_INCLUDE:
        yield f'{path}:1: module "{module}" is not in the include order of scripts/check-includes.py'
        return
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, target = match.groups()
        where = f'{path}:{number}: {line.strip()}'
        first = target.split('/')[0]
        base_name = target.split('/')[-1]
        if base_name.startswith('rte_') and module != 'dpdk':
            yield f'{where}: rte_* belongs to lib/dpdk alone'
        if module is None:
            continue
        if '..' in target.split('/'):
            yield f'{where}: name the file from lib/, without ..'
        elif first in ('app', 'bench', 'test') and quote == '"':
            yield f'{where}: lib never includes what composes it'
        elif first in MAY_INCLUDE and first != module and first not in MAY_INCLUDE[module]:
            yield f'{where}: {module} may include only {", ".join(MAY_INCLUDE[module]) or "itself"}'
        elif quote == '"' and first not in MAY_INCLUDE:
            yield f'{where}: name the file from lib/, as "{module}/{target}"'


def check(root):
    """All violations below root, and how many files were read."""
    found, files = [], 0
    for tree in TREES:
        for path in sorted((root / tree).rglob('*')):
            if path.is_file() and path.suffix in SUFFIXES:
                files += 1
                found.extend(violations_in(root, path))
    return found, files


def self_test():
    """Each case is one file with one include; the checker must say what is expected of it."""
    cases = [
        ('lib/base/x.hh', '#include "tcp/tcb.hh"', False),
        ('lib/base/x.hh', '#include <stack/shard.hh>', False),
        ('lib/wire/x.hh', '#include "table/table.hh"', False),
        ('lib/wire/x.hh', '#include "timer/wheel.hh"', False),
        ('lib/table/x.cc', '#include "wire/segment.hh"', False),
        ('lib/timer/x.cc', '#  include  "table/table.hh"', False),
        ('lib/tcp/x.cc', '#include "stack/shard.hh"', False),
        ('lib/stack/x.cc', '#include "service/service.hh"', False),
        ('lib/service/x.cc', '#include "sim/world.hh"', False),
        ('lib/socket/x.cc', '#include "service/echo.hh"', False),
        ('lib/service/x.cc', '#include "socket/endpoint.hh"', False),
        ('lib/sim/x.cc', '#include "socket/endpoint.hh"', False),
        ('lib/socket/x.cc', '#include "stack/shard.hh"', True),
        ('lib/sim/x.cc', '#include "dpdk/port.hh"', False),
        ('lib/dpdk/x.cc', '#include "sim/world.hh"', False),
        ('lib/stack/x.cc', '#include "../service/service.hh"', False),
        ('lib/stack/x.cc', '#include "shard.hh"', False),
        ('lib/stack/x.cc', '#include "app/config.hh"', False),
        ('lib/stack/x.cc', '#include <rte_mbuf.h>', False),
        ('lib/sim/x.hh', '#include "rte_ether.h"', False),
        ('app/x.cc', '#include <rte_eal.h>', False),
        ('test/dpdk/x.cc', '#include <rte_ring.h>', False),
        ('bench/stack/x.cc', '#include <dpdk/rte_ring.h>', False),
        ('lib/extra/x.cc', '#include <vector>', False),
        ('lib/dpdk/x.cc', '#include <rte_mbuf.h>', True),
        ('lib/dpdk/x.cc', '#include "stack/shard.hh"', True),
        ('lib/tcp/x.cc', '#include "wire/segment.hh"', True),
        ('lib/sim/x.cc', '#include "service/service.hh"', True),
        ('lib/base/x.cc', '#include <vector>', True),
        ('lib/wire/x.cc', '// as #include "tcp/tcb.hh" would', True),
        ('test/tcp/x.cc', '#include "helpers.hh"', True),
        ('app/x.cc', '#include "dpdk/port.hh"', True),
    ]
    wrong = 0
    for path, text, allowed in cases:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / path).parent.mkdir(parents=True)
            (root / path).write_text(text + '\n', encoding='utf-8')
            found, files = check(root)
            if files != 1 or bool(found) == allowed:
                wrong += 1
                print(f'self-test: {path} with {text}: expected {"no violation" if allowed else "a violation"}')
    print(f'check-includes: self-test, {len(cases)} cases, {wrong} wrong')
    return wrong == 0


def main():
    if sys.argv[1:] == ['--self-test']:
        return 0 if self_test() else 1
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    found, files = check(root)
    for violation in found:
        print(violation)
    if files == 0:
        print(f'check-includes: no source file below {root}')
    print(f'check-includes: {files} files, {len(found)} violations')
    return 1 if found or files == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
