#!/usr/bin/env python3
"""Counts what one `meson test` run really executed, from the two logs meson leaves behind.

  scripts/count-tests.py TESTLOG_BASE     reads BASE.json and BASE.junit.xml, prints "passed failed"
  scripts/count-tests.py --self-test      proves that a failure, a time-out, a skip and an empty test are seen

A GoogleTest program counts once for each of its cases, any other test once. A skip is a failure: nothing was tested. So
is a test program that ran no case, and one that failed without any failed case (a crash, a leak at exit, a time-out).
"""
import json
import pathlib
import sys
import tempfile
import xml.etree.ElementTree as ElementTree


def gtest_cases(junit):
    """Per test name: [passed, failed] over the cases of the suites that meson took from GoogleTest."""
    counts = {}
    if not junit.exists():
        return counts
    for suite in ElementTree.parse(junit).getroot().iter('testsuite'):
        parts = suite.get('name', '').split('.', 2)
        if len(parts) < 3:
            continue
        tally = counts.setdefault(parts[1], [0, 0])
        for case in suite.iter('testcase'):
            bad = any(case.find(tag) is not None for tag in ('failure', 'error', 'skipped'))
            if case.get('status') == 'notrun':
                continue
            tally[1 if bad else 0] += 1
    return counts


def count(base):
    """(passed, failed, messages) of one run."""
    log = pathlib.Path(f'{base}.json')
    cases = gtest_cases(pathlib.Path(f'{base}.junit.xml'))
    passed = failed = 0
    messages = []
    for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if log.exists() else []:
        test = json.loads(line)
        name = test['name'].split(' / ')[-1]
        good = test['result'] in ('OK', 'EXPECTEDFAIL')
        if '--gtest_output' in ' '.join(test.get('command', [])):
            ok, bad = cases.get(name, [0, 0])
            if ok + bad == 0 and good:
                messages.append(f'{test["name"]}: ran no test case')
                bad = 1
            elif bad == 0 and not good:
                messages.append(f'{test["name"]}: {test["result"]} without a failed case')
                bad = 1
        else:
            ok, bad = (1, 0) if good else (0, 1)
        passed += ok
        failed += bad
        if bad and not any(m.startswith(test['name'] + ':') for m in messages):
            messages.append(f'{test["name"]}: {test["result"]}')
    return passed, failed, messages


def self_test():
    """One log with every kind of outcome."""
    def line(name, result, gtest):
        command = ['./x'] + (['--gtest_output=xml:x.xml'] if gtest else [])
        return json.dumps({'name': name, 'result': result, 'command': command})

    def suite(name, cases):
        return f'<testsuite name="tidegate.{name}">' + ''.join(cases) + '</testsuite>'

    run, bad = '<testcase name="a" status="run"/>', '<testcase name="b" status="run"><failure/></testcase>'
    skipped, disabled = '<testcase name="c" status="run"><skipped/></testcase>', '<testcase name="d" status="notrun"/>'
    wanted = [
        ([('m / good', 'OK', True)], [suite('good.S', [run, run])], (2, 0)),
        ([('m / bad', 'FAIL', True)], [suite('bad.S', [run, bad])], (1, 1)),
        ([('m / crash', 'FAIL', True)], [], (0, 1)),
        ([('m / leak', 'FAIL', True)], [suite('leak.S', [run])], (1, 1)),
        ([('m / empty', 'OK', True)], [], (0, 1)),
        ([('m / skip', 'OK', True)], [suite('skip.S', [run, skipped])], (1, 1)),
        ([('m / off', 'OK', True)], [suite('off.S', [run, disabled])], (1, 0)),
        ([('script', 'OK', False), ('late', 'TIMEOUT', False), ('none', 'SKIP', False)], [], (1, 2)),
        ([], [], (0, 0)),
    ]
    wrong = 0
    for tests, suites, expected in wanted:
        with tempfile.TemporaryDirectory() as folder:
            base = pathlib.Path(folder) / 'testlog'
            base.with_suffix('.json').write_text(''.join(line(*t) + '\n' for t in tests), encoding='utf-8')
            pathlib.Path(f'{base}.junit.xml').write_text(f'<testsuites>{"".join(suites)}</testsuites>', encoding='utf-8')
            got = count(base)[:2]
            if got != expected:
                wrong += 1
                print(f'self-test: {tests}: {got} instead of {expected}')
    print(f'count-tests: self-test, {len(wanted)} cases, {wrong} wrong')
    return wrong == 0


def main():
    if sys.argv[1:] == ['--self-test']:
        return 0 if self_test() else 1
    passed, failed, messages = count(sys.argv[1])
    for message in messages:
        print(message, file=sys.stderr)
    print(passed, failed)
    return 0


if __name__ == '__main__':
    sys.exit(main())
