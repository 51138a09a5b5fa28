"""The damage matrix: real backups, every kind of damage, and how much of the images comes out.

    python -m tests.damage [--seed 1] [--samples NAME …] [--kinds NAME …]

`samples` has the backups made by the real tools, `kinds` the damage, `optimum` computes from the
undamaged backup how much any program could prove, without the product's code, and `trial` runs the
product and compares. The table shows the product's share of that optimum.
"""
