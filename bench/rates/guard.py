#!/usr/bin/env python3
"""Compares the instructions of a six-packet connection with those on record, stage by stage and in all: what a change
costs is seen when it is made. Callgrind counts the same on every run and machine; another compiler makes other code, so
the record names its own.

  guard.py REPORT [--record]     REPORT: the JSON of `scripts/rates.sh --quick --only stages`"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

RECORD = pathlib.Path(__file__).with_name('instructions.json')
# What may be lost to noise of the compiler's making when code elsewhere moves: a share, and instructions beside it.
SHARE, MORE = 0.02, 10


def stages_of(report):
    """{stage: instructions} of a report of rates.sh, the sum as `all`."""
    case = report['cases']['stages']
    stages = {key.rsplit(':', 1)[0]: figure['median'] for key, figure in case.items() if key.endswith(': instructions')}
    return {**stages, 'all': case['instructions']['median']}


def compare(measured, recorded):
    """([line of the table], [complaint]). A stage that is new counts from nothing; one that shrank is no complaint."""
    lines, complaints = [f'{"stage":16} {"record":>8} {"now":>8} {"change":>8}'], []
    for stage in sorted({*measured, *recorded}, key=lambda s: (s == 'all', -recorded.get(s, 0))):
        before, now = recorded.get(stage, 0.0), measured.get(stage, 0.0)
        lines.append(f'{stage:16} {before:8.0f} {now:8.0f} {now - before:+8.0f}')
        if now > before * (1 + SHARE) + MORE:
            complaints.append(f'{stage}: {now:.0f} instructions a connection, {before:.0f} on record')
    return lines, complaints


def compiler():
    """The compiler's name and major version."""
    said = subprocess.run(['c++', '--version'], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    version = re.search(r'(\d+)\.\d+\.\d+', said)
    return f'{"clang" if "clang" in said else "gcc"} {version.group(1) if version else "?"}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('report', type=pathlib.Path)
    parser.add_argument('--record', action='store_true', help='what was measured becomes the record')
    options = parser.parse_args()
    try:
        measured = stages_of(json.loads(options.report.read_text()))
    except (OSError, ValueError, KeyError) as why:
        print(f'guard: {options.report}: no report of rates.sh with the case stages ({why!r})', file=sys.stderr)
        return 2
    if options.record:
        record = {'compiler': compiler(), 'instructions': {k: round(v, 1) for k, v in measured.items()}}
        RECORD.write_text(json.dumps(record, indent=1) + '\n')
        return 0
    record = json.loads(RECORD.read_text())
    if record['compiler'] != compiler():
        sys.exit(f'guard: the record is of {record["compiler"]}, this is {compiler()}: record anew with --record')
    lines, complaints = compare(measured, record['instructions'])
    print('\n'.join(lines))
    for complaint in complaints:
        print(f'guard: {complaint}; if that is the price of something worth it, record it with --record and say so')
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main())
