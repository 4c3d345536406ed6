#!/usr/bin/env python3
"""What scripts/rates.sh computes: medians and spreads, ratios, testpmd's and callgrind's output."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import figures  # noqa: E402
import guard  # noqa: E402
import others  # noqa: E402
import paths  # noqa: E402
import tidegate  # noqa: E402

TESTPMD = '''
  ######################## NIC statistics for port 0  ########################
  RX-packets: 10         RX-missed: 0          RX-bytes:  640
  Throughput (since last show)
  Rx-pps:        {rx}          Rx-bps:            0
  Tx-pps:        {tx}          Tx-bps:            0
  ######################## NIC statistics for port 1  ########################
  Rx-pps:        7          Rx-bps:            0
  Tx-pps:        8          Tx-bps:            0
'''

CALLGRIND = '''# callgrind format
version: 1
events: Ir D1mr
fl=(1) ../lib/wire/decode.cc
fn=(1) tidegate::decode_burst
10 5 1
+2 7 0
fi=(2) /usr/include/c++/12/bits/stl_algo.h
100 3 0
fe=(1)
* 2 0
cfi=(3) ../lib/tcp/engine.cc
cfn=(2) tidegate::TcpEngine::input
calls=4 20
14 1000 90

fl=(3)
fn=(2)
20 900 80
cfn=(3) memcpy
cob=(1) /lib/libc.so.6
cfi=(4) ???
calls=1 0
21 100 10

ob=(1)
fl=(4)
fn=(3)
0 100 10

totals: 1017 91
'''


class Figures(unittest.TestCase):
    def test_median_of_an_odd_and_an_even_number(self):
        self.assertEqual(figures.median_and_spread([3, 1, 2]), (2, 0.5))
        self.assertEqual(figures.median_and_spread([1, 3])[0], 2)

    def test_the_worst_of_five_is_left_out_of_the_spread(self):
        self.assertEqual(figures.median_and_spread([100, 101, 99, 102, 10]), (100, 0.02))
        self.assertAlmostEqual(figures.median_and_spread([100, 101, 99, 10])[1], 89.5 / 99.5)

    def test_nothing_measured_is_no_figure(self):
        self.assertEqual(figures.median_and_spread([None, None]), (None, None))

    def test_a_ratio_is_taken_within_each_round(self):
        rounds = [{'a': {'rate': 10}, 'b': {'rate': 20}}, {'a': {'rate': 300}, 'b': {'rate': 600}},
                  {'a': {'rate': 7}, 'b': None}, {'b': {'rate': 1}}]
        self.assertEqual(figures.ratio(rounds, 'a', 'b', 'rate'), (0.5, 0))
        self.assertEqual(figures.ratio(rounds, 'a', 'c', 'rate'), (None, None))

    def test_a_summary_keeps_the_single_values_and_the_words(self):
        summary = figures.summarise([{'a': {'rate': 1, 'note': 'x', 'good': True}}, {'a': None},
                                     {'a': {'rate': 3, 'note': 'y', 'good': False}}])
        self.assertEqual(summary['a']['rate'], {'median': 2, 'spread': 0.5, 'values': [1, 3]})
        self.assertEqual((summary['a']['note'], summary['a']['good']), ('y', False))

    def test_testpmd_first_and_last_period_are_cut(self):
        periods = ((0, 9), (0, 9), (3, 1), (10, 20), (30, 20), (20, 20), (5, 1))
        text = ''.join(TESTPMD.format(rx=rx, tx=tx) for rx, tx in periods)
        self.assertEqual(figures.testpmd_rates(text), (20, 20))
        self.assertEqual(figures.testpmd_rates(text, 1), (7, 8))
        self.assertEqual(figures.testpmd_rates('nothing'), (None, None))

    def test_callgrind_counts_each_line_once_and_by_where_it_was_written(self):
        stages = figures.callgrind_stages(CALLGRIND)
        self.assertEqual(stages, {'decode': {'Ir': 17, 'D1mr': 1}, 'state machine': {'Ir': 900, 'D1mr': 80},
                                  'C library': {'Ir': 100, 'D1mr': 10}})
        self.assertEqual(sum(s['Ir'] for s in stages.values()), 1017)

    def test_stages_of_files(self):
        for file, stage in (('lib/wire/checksum.cc', 'checksums'), ('lib/wire/encode.cc', 'encode'),
                            ('lib/wire/tcp.hh', 'decode'), ('lib/table/flow_table.hh', 'look-up'),
                            ('lib/tcp/timers.cc', 'timers'), ('lib/tcp/time_wait.cc', 'state machine'),
                            ('lib/stack/shard.cc', 'pipeline'), ('bench/stack/bench_shard.hh', 'service')):
            self.assertEqual(figures.stage_of('/usr/include/string.h', f'/x/{file}'), stage)
            self.assertEqual(figures.stage_of(f'/x/{file}', 'lib/tcp/engine.cc'), stage)

    def test_a_server_tells_what_it_closed_each_second(self):
        said = ('ready\n   1 s  opened       1,200  closed         900    900/s  in flight\n'
                '  10 s  opened     300,562  closed     300,500    101 k/s  in flight     62\n')
        self.assertEqual(tidegate.closed_each_second(said), [900, 299_600])

    def test_the_flood_is_well_formed(self):
        packet = others.syn(__import__('random').Random(1))
        ip, tcp = packet[14:34], packet[34:]
        self.assertEqual((len(packet), others.checksum(ip)), (66, 0))
        self.assertEqual(others.checksum(ip[12:20] + bytes([0, 6, 0, len(tcp)]) + tcp), 0)
        self.assertEqual(len(others.gateway_answer()), 60)

    def test_the_guard_sees_what_grew(self):
        record = {'decode': 500.0, 'encode': 400.0, 'all': 900.0}
        self.assertEqual(guard.compare(record, record)[1], [])
        self.assertEqual(guard.compare({'decode': 519.0, 'encode': 300.0, 'all': 819.0}, record)[1], [])
        self.assertEqual(len(guard.compare({'decode': 521.0, 'encode': 400.0, 'all': 921.0}, record)[1]), 1)
        self.assertEqual(len(guard.compare({'decode': 600.0, 'encode': 400.0, 'all': 1000.0}, record)[1]), 2)
        new = guard.compare({**record, 'timers': 50.0}, record)
        self.assertEqual(len(new[1]), 1)
        self.assertTrue(new[0][-1].startswith('all'))
        report = {'cases': {'stages': {'decode: instructions': {'median': 3.0}, 'decode: lines from L2': {'median': 1.0},
                                       'instructions': {'median': 3.0}, 'concurrent': {'median': 64}}}}
        self.assertEqual(guard.stages_of(report), {'decode': 3.0, 'all': 3.0})

    def test_dperf_is_read(self):
        self.assertEqual(others.dperf_said('skClose 1,234 skErr 1,000\ncpuUsage 55\nskErr 3\ncpuUsage 0\n'),
                         {'dperf_errors': 1000, 'dperf_busy_percent': 55})
        self.assertEqual(others.dperf_said(''), {'dperf_errors': None, 'dperf_busy_percent': None})

    def test_overload_is_named_by_load_and_policy(self):
        done = {'kept': 0.9, 'kept_beside': 0.95, 'p99_us': 1500.0, 'lost_state': 0, 'failed': 0, 'left_at_server': 0,
                'shed': 7}
        self.assertEqual(paths.overload_figures(done, 200, True), {
            '200%: kept of best': 0.9, '200%: kept beside such clients': 0.95, '200%: p99 ms': 1.5,
            '200%: connections lost': 0})
        self.assertIn('200% without shedding: kept of best', paths.overload_figures(done, 200, False))

    def test_overload_loses_nothing_and_sheds(self):
        done = {'lost_state': 0, 'failed': 0, 'left_at_server': 0, 'shed': 7}
        calm = {**done, 'shed': 0}
        self.assertEqual(paths.overloaded(lambda: done, 200), done)
        self.assertEqual(paths.overloaded(lambda: calm, 90), calm)
        self.assertEqual(paths.overloaded(iter([calm, calm, done]).__next__, 200), done)
        for wrong in ({'lost_state': 1}, {'failed': 1}):
            with self.assertRaises(paths.Failed):
                paths.overloaded(iter([{**done, **wrong}]).__next__, 200)
        with self.assertRaises(paths.Failed):
            paths.overloaded(iter([calm] * 3).__next__, 200)

    def test_set_up_cancels_out(self):
        more, less = {'decode': {'Ir': 150}, 'encode': {'Ir': 30}}, {'decode': {'Ir': 50}}
        self.assertEqual(figures.per_connection(more, less, 10),
                         {'decode': {'Ir': 10}, 'encode': {'Ir': 3}})

    def test_numbers_for_people(self):
        self.assertEqual([figures.si(v) for v in (None, 0.5, 42.4, 999, 1500, 2_340_000, 3e9)],
                         ['-', '0.5', '42.4', '999', '1.5 k', '2.34 M', '3 G'])


if __name__ == '__main__':
    unittest.main()
