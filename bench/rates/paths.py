"""Cases without a device: bench/path's program, by itself or under callgrind.

Callgrind's figures are those of a simulated machine: the same on every run, so one run is all there is to them. Time is
measured by the program itself."""
import functools

import figures
from world import Failed

# Rounds of the two runs under callgrind, whose difference is counted; set-up and warm-up cancel out.
FEW, MANY = 20, 120


def path(world, *words, seconds=600, name='path'):
    return world.run(name, world.whole_path, *words, seconds=seconds, cpus=[world.server_cpu]).json()


def counted(world, *words, concurrent=64, shards=1, caches=True):
    """{stage: {event: count}} of one connection, from callgrind."""
    stages = []
    for rounds in (FEW, MANY):
        out = world.folder / f'callgrind.{rounds}'
        world.run(f'callgrind-{rounds}', 'valgrind', '--tool=callgrind', f'--callgrind-out-file={out}',
                  '--toggle-collect=tidegate::Server::turn*', f'--cache-sim={"yes" if caches else "no"}',
                  world.whole_path, 'connections', '--rounds', rounds, '--concurrent', concurrent, '--shards', shards,
                  *words, seconds=900, cpus=[world.server_cpu])
        stages.append(figures.callgrind_stages(out.read_text(errors='replace')))
    if not stages[1]:
        raise Failed('callgrind counted nothing; was the program built with line numbers (-g1)?')
    return figures.per_connection(stages[1], stages[0], (MANY - FEW) * concurrent * shards)


def misses(events):
    """(of the first level, of the last), reads and writes of data."""
    return (events.get('D1mr', 0) + events.get('D1mw', 0), events.get('DLmr', 0) + events.get('DLmw', 0))


def stages(world):
    """Instructions and cache lines of a connection, by stage."""
    concurrent = 64 if world.quick else 1024
    split = counted(world, '--checksums', '--time-wait', 1000 if world.quick else 100_000, concurrent=concurrent)
    result = {'concurrent': concurrent}
    for stage, events in sorted(split.items(), key=lambda item: -item[1]['Ir']):
        result[f'{stage}: instructions'] = events['Ir']
        result[f'{stage}: lines from L2'] = misses(events)[0]
        result[f'{stage}: lines from memory'] = misses(events)[1]
    result['instructions'] = sum(e['Ir'] for e in split.values())
    result['lines_from_l2'] = sum(misses(e)[0] for e in split.values())
    result['lines_from_memory'] = sum(misses(e)[1] for e in split.values())
    return result


def overload_figures(done, percent, shedding):
    """What one run of `whole_path overload` says, by name."""
    how = f'{percent}%' if shedding else f'{percent}% without shedding'
    return {f'{how}: kept of best': done['kept'], f'{how}: kept beside such clients': done['kept_beside'],
            f'{how}: p99 ms': done['p99_us'] / 1e3, f'{how}: connections lost': done['lost_state']}


def overloaded(measure, percent, tries=3):
    """What `measure()` says of a server that sheds. It must not lose what it has begun; and at twice its load there is
    something to shed, unless the machine was slower while the best rate was looked for, which bears repeating."""
    for _ in range(tries):
        done = measure()
        if done['lost_state'] or done['failed']:
            raise Failed(f'{percent}%: {done["failed"]} connections failed, {done["left_at_server"]} left at the server')
        if percent < 150 or done['shed']:
            return done
    raise Failed(f'{percent}%: nothing was shed, so it was no overload, {tries} times')


def overload(world):
    """A server's shard offered more than it carries, by clients that repeat themselves; then as if it knew no
    overload."""
    loads = [200] if world.quick else [50, 90, 110, 150, 200, 300]
    size = ('--milliseconds', 60, '--waiting', 1_000_000) if world.quick else (
        '--milliseconds', 700, '--waiting', 4_000_000)
    result = {}
    for percent in loads:
        for shedding in (True, False):
            words = () if shedding else ('--interval', 0)
            measure = functools.partial(path, world, 'overload', '--load', percent, *size, *words,
                                        name=f'overload-{percent}-{int(shedding)}')
            done = overloaded(measure, percent) if shedding else measure()
            result.update(overload_figures(done, percent, shedding))
    return result


def memory(world):
    """The server's shard alone, frames in memory; cycles by the TSC. With receive checksums by the device and by us."""
    rounds = 2000 if world.quick else 20_000
    done = path(world, 'connections', '--rounds', rounds)
    software = path(world, 'connections', '--rounds', rounds, '--checksums')
    cold = path(world, 'connections', '--rounds', rounds // 200, '--concurrent', 16_384, '--time-wait',
                100_000 if world.quick else 1_000_000)
    return {'rate_per_s': done['connections_per_s'], 'server_cycles_per_connection': done['cycles_per_connection'],
            'cycles_with_software_checksums': software['cycles_per_connection'],
            'cycles_with_16k_open': cold['cycles_per_connection'], 'packets_per_connection': 6.0}


def latency(world):
    """What the server adds at half of its best rate, waiting included."""
    done = path(world, 'latency', '--load', 50, '--connections', 50_000 if world.quick else 1_000_000)
    return {key: done[key] for key in ('p50_us', 'p90_us', 'p99_us', 'p999_us', 'max_us', 'p50_machine_us',
                                       'p99_machine_us', 'p99_paper_us', 'p99_added_us', 'p50_undisturbed_us',
                                       'p99_undisturbed_us', 'packets_left_out', 'machine_gaps', 'machine_gaps_unseen',
                                       'minor_faults', 'max_per_s', 'offered_per_s', 'mean_burst')}


def shards(world):
    """Instructions per connection with one to eight shards in one process, driven in turn."""
    result = {}
    for count in (1, 2) if world.quick else (1, 2, 4, 8):
        split = counted(world, '--checksums', shards=count, caches=False)
        result[f'{count} shards: instructions'] = sum(e['Ir'] for e in split.values())
    counts = list(result.values())
    return {**result, 'last to first': counts[-1] / counts[0]}


def growth_sizes(world):
    """(established, TIME-WAIT) sizes, the first of each being what the others are compared with."""
    if world.quick:
        return (10_000, 100_000), (0, 100_000)
    # Each idle connection takes 130 octets and more, each TIME-WAIT 48 and more; half of the free memory at most.
    room = world.options.memory_gib * 2**30 / 2
    idle = [n for n in (10_000, 100_000, 1_000_000, 10_000_000) if n * 400 < room]
    waiting = [n for n in (0, 1_000_000, 10_000_000, 60_000_000) if n * 120 < room]
    return idle, waiting


def growth(world):
    """How the rate keeps as connections and TIME-WAIT entries stand in memory; octets each of them takes."""
    idle_sizes, waiting_sizes = growth_sizes(world)
    points = [('established', 'idle', n, {'--idle': n}) for n in idle_sizes]
    points += [('TIME-WAIT', 'time_wait', n, {'--time-wait': max(n, 1000)}) for n in waiting_sizes]
    if not world.quick:
        points.append(('both', 'both', idle_sizes[-1] + waiting_sizes[-1],
                       {'--idle': idle_sizes[-1], '--time-wait': waiting_sizes[-1]}))
    result = {}
    for what, key, size, words in points:
        world.options.say(f'growth: {what} {figures.si(size)}')
        done = path(world, 'connections', '--beside', '--rounds', 20 if world.quick else 200, '--concurrent', 1024,
                    *(str(w) for pair in words.items() for w in pair), name=f'{key}-{size}')
        result[f'{what} {size}: cycles'] = done['cycles_per_connection']
        # A shard with 10,000 idle connections, measured in the same seconds.
        result[f'{what} {size}: rate to a small one'] = done['beside_cycles_per_connection'] / done[
            'cycles_per_connection']
        if key == 'idle' and size >= 100_000:
            result[f'{what} {size}: octets each'] = done['idle_bytes'] / size
        if key == 'time_wait' and size >= 100_000:
            result[f'{what} {size}: octets each'] = done['time_wait_bytes'] / size
    return result
