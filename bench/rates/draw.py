"""The growth curves as an SVG, drawn by gnuplot."""
import re
import shutil
import subprocess

CURVES = (('established', 'idle established connections'), ('TIME-WAIT', 'in TIME-WAIT'))


def curves(growth):
    """{name: [(size, share of a small shard's rate)]} from growth's figures."""
    points = {}
    for key, figure in growth.items():
        found = re.match(r'(established|TIME-WAIT|both) (\d+): rate to a small one$', key)
        if found:
            points.setdefault(found.group(1), []).append((int(found.group(2)), figure['median']))
    return {name: sorted(values) for name, values in points.items()}


def draw(growth, path):
    """Returns whether there is a picture."""
    drawn = curves(growth)
    if not drawn or not shutil.which('gnuplot'):
        return False
    data, plots = [], []
    for name, title in (*CURVES, ('both', 'both at once')):
        if name not in drawn:
            continue
        label = name.replace('-', '_')
        # Nothing in TIME-WAIT stands at the left edge of a logarithmic axis.
        rows = '\n'.join(f'{max(size, 1000)} {share:.4f}' for size, share in drawn[name])
        data.append(f'${label} << END\n{rows}\nEND')
        style = 'points pt 5 ps 1' if name == 'both' else 'linespoints lw 2 pt 7 ps 0.6'
        plots.append(f"${label} with {style} title '{title}'")
    script = '\n'.join((*data, "set terminal svg size 720,420 background rgb 'white' font 'sans,13'",
                        f"set output '{path}'", "set title 'Connections a second as others stand in memory'",
                        "set xlabel 'standing connections (0 at the left edge)'",
                        "set ylabel 'rate, where a small shard has 1'", 'set logscale x',
                        'set xrange [1000:1e8]', 'set yrange [0:1.2]',
                        "set format x '10^{%T}'", 'set grid', 'set key bottom left', 'plot ' + ', '.join(plots)))
    subprocess.run(['gnuplot'], input=script, text=True, check=True, timeout=60)
    return True
