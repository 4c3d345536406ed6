#!/usr/bin/env python3
"""Holds the table of rules, test/conformance/RULES.md, against the tests in test/ and the table of deliberate
differences in lib/tcp/README.md.

  scripts/check-rules.py [ROOT]        exits 1 and names each line that is wrong
  scripts/check-rules.py --unnamed     lists tests named for an RFC of the table, and differences, that no row names
  scripts/check-rules.py --self-test   proves that each complaint is made when it should be, and only then

A row is `| rule | in a few words | how we stand | tests |`. How we stand is one of
  held                    and the tests hold it
  differs: WHERE          WHERE is the first cell of a row of the README's table; the tests hold what we do instead
  not applicable: REASON  and no test can hold it
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TABLE = 'test/conformance/RULES.md'
README = 'lib/tcp/README.md'
README_HEADING = 'Deliberate differences'
# RFC 9293 Appendix B ends with MUST-69 and SHLD-31; REC-1 is its one recommendation.
NUMBERED = {'MUST': 69, 'SHLD': 31, 'REC': 1}
# Every one of these has rows of its own.
RFCS = [1191, 1337, 2018, 2883, 3042, 3168, 4821, 4987, 5482, 5681, 5682, 5927, 5961, 6093, 6191, 6298, 6528, 6582,
        6675, 6691, 6928, 6937, 7323, 8201, 8985, 9293, 9438]
RULE = re.compile(r'RFC (\d+) (MUST-\d+|SHLD-\d+|MAY-\d+|REC-\d+|\d+(?:\.\d+)*(?: [a-z])?)')
TEST = re.compile(r'^[ \t]*(TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+)\s*,\s*(\w+)\s*\)', re.MULTILINE)
INSTANCE = re.compile(r'^[ \t]*(?:INSTANTIATE_TEST_SUITE_P\(\s*\w+\s*,\s*|TG_FAMILY_SUITE\(\s*|TYPED_TEST_SUITE\(\s*)(\w+)',
                      re.MULTILINE)
COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.DOTALL)


def tests_of(root):
    """{'Suite.Name': file} of every test that is compiled and run."""
    tests, parametrised, instances = {}, {}, set()
    for path in sorted((root / 'test').rglob('*.cc')):
        text = COMMENT.sub('', path.read_text(encoding='utf-8'))
        instances.update(INSTANCE.findall(text))
        found = TEST.findall(text)
        build = path.parent / 'meson.build'
        if not found or not build.exists() or f"'{path.name}'" not in build.read_text(encoding='utf-8'):
            continue
        for kind, suite, name in found:
            if suite.startswith('DISABLED_') or name.startswith('DISABLED_'):
                continue
            (parametrised if kind in ('TEST_P', 'TYPED_TEST') else tests)[f'{suite}.{name}'] = path
    for path in sorted((root / 'test').rglob('*.hh')):
        instances.update(INSTANCE.findall(COMMENT.sub('', path.read_text(encoding='utf-8'))))
    for test, path in parametrised.items():
        if test.split('.')[0] in instances:
            tests[test] = path
    return tests


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def table_rows(lines):
    """(number, cells) of the rows of all tables, without their two head lines."""
    rulers = {n for n, line in enumerate(lines, 1) if re.fullmatch(r'\|[|\s:-]*-[|\s:-]*', line.strip())}
    for number, line in enumerate(lines, 1):
        if line.startswith('|') and number not in rulers and number + 1 not in rulers:
            yield number, cells_of(line)


def differences_of(root):
    """The first cells of the README's table of deliberate differences."""
    lines = (root / README).read_text(encoding='utf-8').splitlines()
    inside, where = [], False
    for line in lines:
        if line.startswith('#'):
            where = README_HEADING in line
        inside.append(line if where else '')
    return {cells[0] for _, cells in table_rows(inside)}


def check_row(cells, tests, differences):
    """What is wrong with one row, except that it may be there twice."""
    rule, words, stand, named = cells
    if not RULE.fullmatch(rule):
        yield f'"{rule}" is no rule; write "RFC 9293 MUST-1" or "RFC 5961 3.2"'
    if len(words) < 8:
        yield f'{rule}: say the rule in a few words'
    names = [name.strip().strip('`') for name in named.split(',') if name.strip()]
    kind, _, rest = stand.partition(':')
    rest = rest.strip()
    if kind == 'not applicable':
        if len(rest) < 12:
            yield f'{rule}: not applicable without a reason'
    elif kind == 'differs':
        if rest not in differences:
            yield f'{rule}: differs, but {README} has no row "{rest}"'
    elif stand != 'held':
        yield f'{rule}: "{stand}" is none of held, differs: WHERE, not applicable: REASON'
    if kind != 'not applicable' and not names:
        yield f'{rule}: no test holds it'
    for name in names:
        if name not in tests:
            yield f'{rule}: there is no test {name} (or nothing runs it)'
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'{rule}: {name} is named twice'


def check(root):
    """(complaints, rules, tests named)."""
    tests = tests_of(root)
    complaints = []
    differences = differences_of(root)
    lines = (root / TABLE).read_text(encoding='utf-8').splitlines()
    seen = {}
    named = set()
    for number, cells in table_rows(lines):
        where = f'{TABLE}:{number}: '
        if len(cells) != 4:
            complaints.append(f'{where}{len(cells)} cells; a row has 4')
            continue
        complaints += [where + text for text in check_row(cells, tests, differences)]
        if cells[0] in seen:
            complaints.append(f'{where}{cells[0]} stands in line {seen[cells[0]]} already')
        seen[cells[0]] = number
        named.update(name.strip().strip('`') for name in cells[3].split(',') if name.strip())
    for kind, last in NUMBERED.items():
        for n in range(1, last + 1):
            if f'RFC 9293 {kind}-{n}' not in seen:
                complaints.append(f'{TABLE}: RFC 9293 {kind}-{n} is missing')
    for rule in seen:
        match = re.fullmatch(r'RFC 9293 (MUST|SHLD|REC)-(\d+)', rule)
        if match and not 1 <= int(match[2]) <= NUMBERED[match[1]]:
            complaints.append(f'{TABLE}:{seen[rule]}: {rule} is not in RFC 9293; its last is {NUMBERED[match[1]]}')
    for rfc in RFCS:
        if not any(rule.startswith(f'RFC {rfc} ') for rule in seen):
            complaints.append(f'{TABLE}: nothing of RFC {rfc}')
    return complaints, seen, named


def unnamed(root):
    """Tests named for an RFC of the table, and deliberate differences, that no row names; not wrong, but worth a look."""
    _, _, named = check(root)
    text = (root / TABLE).read_text(encoding='utf-8')
    lonely = [f'{README}: {where}' for where in sorted(differences_of(root)) if f'| differs: {where} |' not in text]
    suite = re.compile('Rfc(' + '|'.join(str(rfc) for rfc in RFCS) + r')(_|\.)')
    return [test for test in sorted(tests_of(root)) if suite.match(test) and test not in named] + lonely


def world(folder, rows=None, files=None, readme=None):
    """A small tree in which everything is as it should be, but for what the caller puts in its place."""
    root = pathlib.Path(folder)
    rows = rows or []
    complete = [f'RFC 9293 {kind}-{n}' for kind, last in NUMBERED.items() for n in range(1, last + 1)]
    complete += [f'RFC {rfc} 1' for rfc in RFCS if rfc != 9293]
    replaced = {row.split('|')[1].strip() for row in rows if row.startswith('|')}
    lines = ['# Rules', '', '| rule | in a few words | how we stand | tests |', '|---|---|---|---|']
    lines += [f'| {rule} | a rule of its own | held | `Suite.Holds` |' for rule in complete if rule not in replaced]
    lines += [row for row in rows if row.startswith('|')]
    absent = {row[1:] for row in rows if row.startswith('-')}
    lines = [line for line in lines if line.startswith('|-') or cells_of(line)[0] not in absent]
    content = {
        TABLE: '\n'.join(lines) + '\n',
        README: readme or ('## Other\n| a | b |\n|---|---|\n| elsewhere | x |\n## Deliberate differences and choices\n'
                           '| where | why |\n|---|---|\n| minimum RTO | Linux |\n'),
        'test/x/meson.build': "executable('x', 'x_test.cc')\n",
        'test/x/x_test.cc': 'TEST(Suite, Holds) {}\n',
    }
    content.update(files or {})
    for path, text in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding='utf-8')
    return root


def self_test():
    """Each case changes one thing; exactly one complaint with the given words must come, or none."""
    one = 'RFC 9293 MUST-1'
    code = 'test/x/x_test.cc'
    cases = [
        ('nothing', {}, None),
        ('a MUST is missing', {'rows': [f'-{one}']}, f'{one} is missing'),
        ('the last MUST is missing', {'rows': ['-RFC 9293 MUST-69']}, 'MUST-69 is missing'),
        ('a SHLD is missing', {'rows': ['-RFC 9293 SHLD-31']}, 'SHLD-31 is missing'),
        ('an RFC is missing', {'rows': ['-RFC 5961 1']}, 'nothing of RFC 5961'),
        ('a MUST that RFC 9293 does not have', {'rows': ['| RFC 9293 MUST-70 | no such rule | held | Suite.Holds |']},
         'not in RFC 9293'),
        ('twice', {'rows': [f'| {one} | a rule of its own | held | Suite.Holds |'] * 2}, 'stands in line'),
        ('no test', {'rows': [f'| {one} | a rule of its own | held | |']}, 'no test holds it'),
        ('no test for a difference', {'rows': [f'| {one} | a rule of its own | differs: minimum RTO | |']},
         'no test holds it'),
        ('an unknown test', {'rows': [f'| {one} | a rule of its own | held | `Suite.Holds`, Suite.Gone |']},
         'no test Suite.Gone'),
        ('a test named twice', {'rows': [f'| {one} | a rule of its own | held | Suite.Holds, `Suite.Holds` |']},
         'named twice'),
        ('a test in a comment', {'rows': [f'| {one} | a rule of its own | held | Suite.Was |'],
                                 'files': {code: 'TEST(Suite, Holds) {}\n// TEST(Suite, Was) {}\n'}}, 'no test Suite.Was'),
        ('a disabled test', {'rows': [f'| {one} | a rule of its own | held | Suite.DISABLED_Off |'],
                             'files': {code: 'TEST(Suite, Holds) {}\nTEST(Suite, DISABLED_Off) {}\n'}}, 'no test Suite.DIS'),
        ('a file nobody builds', {'rows': [f'| {one} | a rule of its own | held | Suite.Alone |'],
                                  'files': {'test/x/y_test.cc': 'TEST(Suite, Alone) {}\n'}}, 'no test Suite.Alone'),
        ('a suite without values', {'rows': [f'| {one} | a rule of its own | held | Many.Cases |'],
                                    'files': {code: 'TEST(Suite, Holds) {}\nTEST_P(Many, Cases) {}\n'}}, 'no test Many.'),
        ('a suite with values', {'rows': [f'| {one} | a rule of its own | held | Many.Cases |'],
                                 'files': {code: 'TEST(Suite, Holds) {}\nTEST_P(Many,\n       Cases) {}\n'
                                                 'INSTANTIATE_TEST_SUITE_P(All, Many, Values(1));\n'}}, None),
        ('a suite of both families', {'rows': [f'| {one} | a rule of its own | held | Many.Cases |'],
                                      'files': {code: 'TG_FAMILY_SUITE(Many);\nTEST_P(Many, Cases) {}\n'
                                                      'TEST_F(Suite, Holds) {}\n'}}, None),
        ('a difference', {'rows': [f'| {one} | a rule of its own | differs: minimum RTO | Suite.Holds |']}, None),
        ('a difference the README lacks', {'rows': [f'| {one} | a rule of its own | differs: MSL | Suite.Holds |']},
         'has no row "MSL"'),
        ('a row of another table', {'rows': [f'| {one} | a rule of its own | differs: elsewhere | Suite.Holds |']},
         'has no row "elsewhere"'),
        ('not applicable', {'rows': [f'| {one} | a rule of its own | not applicable: a rule for applications | |']}, None),
        ('not applicable, just so', {'rows': [f'| {one} | a rule of its own | not applicable | |']}, 'without a reason'),
        ('a word of its own', {'rows': [f'| {one} | a rule of its own | soon | Suite.Holds |']}, 'is none of held'),
        ('no words', {'rows': [f'| {one} | | held | Suite.Holds |']}, 'in a few words'),
        ('a strange rule', {'rows': ['| MUST 5 | a rule of its own | held | Suite.Holds |']}, 'is no rule'),
        ('a cell too many', {'rows': [f'| {one} | a rule of its own | held | Suite.Holds | |',
                                      f'| {one} | a rule of its own | held | Suite.Holds |']}, '5 cells'),
    ]
    wrong = 0
    for name, change, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            complaints, _, _ = check(world(folder, **change))
            good = complaints == [] if expected is None else len(complaints) == 1 and expected in complaints[0]
            if not good:
                wrong += 1
                print(f'self-test: {name}: expected {expected or "nothing"}, got {complaints}')
    # A reader that has seen enough, like head, is no reason for complaints of Python's.
    with subprocess.Popen([sys.executable, __file__, '--unnamed'], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        said = listing.stderr.read().decode()
    if said:
        wrong += 1
        print(f'self-test: --unnamed to a closed pipe said {said}')
    print(f'check-rules: self-test, {len(cases) + 1} cases, {wrong} wrong')
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(
        description='Holds the table of rules, test/conformance/RULES.md, against the tests in test/ and the table of '
                    'deliberate differences in lib/tcp/README.md. Exits 1 and names each line that is wrong.',
        epilog='What a row of the table looks like stands at the top of this script.')
    parser.add_argument('root', nargs='?', type=pathlib.Path, default=pathlib.Path(__file__).parent.parent,
                        metavar='ROOT', help='the tree to look at; by default the one this script is in')
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument('--unnamed', action='store_true',
                       help='list tests named for an RFC of the table, and differences, that no row names')
    kinds.add_argument('--self-test', action='store_true',
                       help='prove that each complaint is made when it should be, and only then')
    arguments = parser.parse_args()
    if arguments.self_test:
        return 0 if self_test() else 1
    root = arguments.root.resolve()
    if not (root / TABLE).is_file():
        parser.error(f'{root} has no {TABLE}; name the root of the tree')
    if arguments.unnamed:
        lines = '\n'.join(unnamed(root))
        try:
            print(lines, flush=True)
        except BrokenPipeError:
            # Nobody reads on. What is buffered goes nowhere, so that closing it at exit does not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    complaints, rules, named = check(root)
    for complaint in complaints:
        print(complaint)
    print(f'check-rules: {len(rules)} rules, {len(named)} tests that hold them, {len(complaints)} complaints')
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main())
