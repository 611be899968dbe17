# SPDX-License-Identifier: Apache-2.0
"""The command `mmcc targets`: what can be compiled for."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from mmcc.sizes import readable


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def targets(ctx: click.Context, as_json: bool) -> None:
    """List the targets; `list` also all chips, `show` one of them."""
    if ctx.invoked_subcommand is not None:
        return
    from mmcc.chips import chips
    from mmcc.target import list_chips, list_targets, load_target

    rows = {name: load_target(name).description for name in (*list_targets(), *list_chips())}
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for name, description in rows.items():
            click.echo(f"{name:<18}{description}")
        click.echo(f"\nand {len(chips())} chips by name: mmcc targets list, or --chip stm32f411re")
        click.echo("A TOML file of your own is taken by path: --target ./board.toml")


@targets.command(name="list")
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_all(pattern: str, as_json: bool) -> None:
    """List chips, those with PATTERN in their names."""
    from mmcc.chips import chips

    found = [chip for name, chip in chips().items() if pattern.lower() in name]
    if as_json:
        click.echo(json.dumps([asdict(chip) for chip in found], indent=1))
        return
    for chip in found:
        flash = readable(chip.flash) if chip.flash else "outside"
        click.echo(f"{chip.name:<22}{chip.core:<15}RAM {readable(chip.ram):<22}flash {flash}")


@targets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what is known of a target or a chip: NAME, or a TOML file."""
    from mmcc.target import load_target

    target = load_target(name)
    found: dict[str, Any] = {
        "name": target.name,
        "description": target.description,
        "compiler": target.compiler,
        "flags": list(target.flags),
        "kernels": list(target.kernels),
        "memory": [asdict(region) for region in target.memory],
        "cache": [asdict(cache) for cache in target.cache],
        "emulated": f"{target.qemu.program} {target.qemu.machine}".strip() if target.qemu else None,
        "stack_bytes": target.stack_bytes,
        "vector_bits": target.vector_bits or None,
        "packages": dict(target.packages),
        "cost": dict(target.cost),
        "cost_unit": target.cost_unit,
    }
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{target.name}: {target.description}")
    shown = {
        "compiler": target.compiler,
        "flags": " ".join(target.flags),
        "kernels": " ".join(target.kernels),
    }
    shown |= {
        "emulated": found["emulated"] or "no",
        "cost": f"work is predicted in {target.cost_unit}",
        "stack": f"{target.stack_bytes:,} bytes are reserved at first",
    }
    if target.vector_bits:
        shown["vectors"] = f"of up to {target.vector_bits:,} bits: stacks are measured for these"
    for key, value in shown.items():
        click.echo(f"  {key:<12}{value}")
    for region in target.memory:
        size = readable(region.size) if region.size else "as much as it needs"
        click.echo(f"  {'memory':<12}{region.name} {size}")
    for cache in target.cache:
        click.echo(f"  {'cache':<12}{readable(cache.size)}, {cache.beyond:g} for a byte beyond it")
