#!/usr/bin/env python3
"""Counts what one `meson test` run really executed, from the two logs meson leaves behind.

  scripts/count-tests.py TESTLOG_BASE     reads BASE.json and BASE.junit.xml, prints "passed failed"
  scripts/count-tests.py --self-test      proves that a failure, a time-out, a skip and an empty test are seen

A GoogleTest or TAP program counts once for each of its cases, any other test once. A skip is a failure: nothing was
tested. So is a test program that ran no case, and one that failed without any failed case (a crash, a leak at exit, a
time-out).
"""
import json
import pathlib
import sys
import tempfile
import xml.etree.ElementTree as ElementTree


def junit_suites(junit):
    """(name, [passed, failed]) of each suite in meson's JUnit log; a case that is disabled is not counted."""
    for suite in ElementTree.parse(junit).getroot().iter('testsuite') if junit.exists() else []:
        tally = [0, 0]
        for case in suite.iter('testcase'):
            if case.get('status') != 'notrun':
                bad = any(case.find(tag) is not None for tag in ('failure', 'error', 'skipped'))
                tally[1 if bad else 0] += 1
        yield suite.get('name', ''), tally


def count(base):
    """(passed, failed, messages) of one run."""
    log = pathlib.Path(f'{base}.json')
    introspection = log.parent.parent / 'meson-info' / 'intro-tests.json'
    manifold = {t['name'] for t in json.loads(introspection.read_text(encoding='utf-8'))
                if t['protocol'] in ('gtest', 'tap')}
    suites = list(junit_suites(pathlib.Path(f'{base}.junit.xml')))
    passed = failed = 0
    messages = []
    for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if log.exists() else []:
        test = json.loads(line)
        good = test['result'] in ('OK', 'EXPECTEDFAIL')
        ok, bad, why = (1, 0, '') if good else (0, 1, test['result'])
        if test['name'].split(' / ')[-1] in manifold:
            # meson names a GoogleTest suite "project.test.suite", a TAP suite "project.test", a test by its whole name.
            mine = [tally for name, tally in suites if f'{name}.'.split('.', 1)[-1].startswith(test['name'] + '.')]
            ok, bad = sum(t[0] for t in mine), sum(t[1] for t in mine)
            if bad == 0 and not good:
                bad, why = 1, f'{test["result"]} without a failed case'
            elif ok + bad == 0:
                bad, why = 1, 'ran no case'
            elif bad and good:
                why = 'skipped cases'
        passed += ok
        failed += bad
        if bad:
            messages.append(f'{test["name"]}: {why}')
    return passed, failed, messages


def self_test():
    """Each outcome in logs as meson writes them."""
    def suite(name, cases):
        return f'<testsuite name="tidegate.{name}.Rfc">{"".join(cases)}</testsuite>'

    run, bad = '<testcase name="a" status="run"/>', '<testcase name="b" status="run"><failure/></testcase>'
    skipped, disabled = '<testcase name="c" status="run"><skipped/></testcase>', '<testcase name="d" status="notrun"/>'
    wanted = [
        ([('t:m / good', 'OK', True)], [suite('t:m / good', [run, run])], (2, 0)),
        ([('t:m / bad', 'FAIL', True)], [suite('t:m / bad', [run, bad])], (1, 1)),
        ([('t:m / crash', 'FAIL', True)], [], (0, 1)),
        ([('t:m / leak', 'FAIL', True)], [suite('t:m / leak', [run])], (1, 1)),
        ([('t:m / late', 'TIMEOUT', True)], [], (0, 1)),
        ([('t:m / empty', 'OK', True)], [], (0, 1)),
        ([('t:m / skip', 'OK', True)], [suite('t:m / skip', [run, skipped])], (1, 1)),
        ([('t:m / off', 'OK', True)], [suite('t:m / off', [run, disabled])], (1, 0)),
        ([('t:m / one', 'OK', True), ('t:m / two', 'OK', True)],
         [suite('t:m / one', [run]), suite('t:m / two', [run, run])], (3, 0)),
        ([('script', 'OK', False), ('late', 'TIMEOUT', False), ('none', 'SKIP', False)], [], (1, 2)),
        ([('t:e2e / tap', 'FAIL', True)], [suite('t:e2e / tap', [run, bad, skipped]).replace('.Rfc"', '"')], (1, 2)),
        ([], [], (0, 0)),
    ]
    wrong = 0
    for tests, suites, expected in wanted:
        with tempfile.TemporaryDirectory() as folder:
            logs, info = pathlib.Path(folder) / 'meson-logs', pathlib.Path(folder) / 'meson-info'
            logs.mkdir()
            info.mkdir()
            (info / 'intro-tests.json').write_text(json.dumps(
                [{'name': name.split(' / ')[-1], 'protocol': 'gtest' if gtest else 'exitcode'}
                 for name, _, gtest in tests]), encoding='utf-8')
            (logs / 'testlog.json').write_text(''.join(
                json.dumps({'name': name, 'result': result}) + '\n' for name, result, _ in tests), encoding='utf-8')
            (logs / 'testlog.junit.xml').write_text(f'<testsuites>{"".join(suites)}</testsuites>', encoding='utf-8')
            got = count(logs / 'testlog')[:2]
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
