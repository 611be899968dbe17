# SPDX-License-Identifier: Apache-2.0
"""ONNX Loop and Scan whose number of steps is known: one node with a body, or the body once for each step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.binding_hint import binding_hint
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, Stopped, inline_all, result_of, result_of_graph, with_axis
from mmcc.frontend.kept_loops import FEW_NODES, KeptLoop, Unrolled, keep, slices_for_steps
from mmcc.frontend.known_values import (
    MOST_STEPS,
    Known,
    Ports,
    copied_on,
    known_steps,
    may_end_early,
    own_names,
    without_results,
)
from mmcc.frontend.lifting import Lifted, Rows, Scanned, liftable, lifted
from mmcc.frontend.order import ordered
from mmcc.frontend.problems import CUT_OFF, bad_model, located, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.sequences import check_handed_on, only_tensors, operand, takes_sequences, tensors_of
from mmcc.frontend.slices_of_steps import slices_of_steps
from mmcc.frontend.tensors import DTYPES
from mmcc.frontend.value import Members, Value
from mmcc.ops.repeat import in_turn

MAX_NODES = 8192  # of the body, all steps together
SINCE = 9  # a Scan of operator set 8 has a batch


def is_loop(node: NodeProto) -> bool:
    """True of a Loop or a Scan."""
    return node.op_type in {"Loop", "Scan"} and not domain_of(node)


def unroll(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Convert the body once for each step; what is wrong, if the node itself is."""
    try:
        _, attributes = checked_node(node, state.source.opsets[""])
        steps = _Steps(state, where, node, convert, attributes)
        found = steps.loop() if node.op_type == "Loop" else steps.scan()
    except Stopped:
        state.lost.update(filter(None, node.output))
        return None
    except CompileError as error:
        return located(error, where)
    for name, value in zip(node.output, found, strict=True):
        if name and value is not None:
            state.define(name, value)
    return None


@dataclass(frozen=True, eq=False)
class _Steps:
    state: Import
    where: Where
    node: NodeProto
    convert: Convert
    attributes: dict[str, AttributeProto]

    @property
    def body(self) -> GraphProto:
        return self.attributes["body"].g

    def _run(self, graph: GraphProto, given: Mapping[str, Value]) -> Value:
        """The result of a graph of one node."""
        return result_of_graph(self.state, self.where, graph, given, self.convert)

    def loop(self) -> Sequence[Value | Members | None]:
        """Inputs of the body: the step's number, a condition, what goes from step to step."""
        body, given = self.body, [self._operand(name) for name in self.node.input[:2]]
        state, limit, go_on = [operand(self.state, name) for name in self.node.input[2:]], *given
        each = len(state)
        wanted = (2 + each, 1 + each + (len(self.node.output) - each))
        if (len(body.input), len(body.output)) != wanted:
            raise bad_model("MM103", "the body does not fit the Loop")
        limit = None if limit is None else max(0, int(self._number(limit, "number of steps", 0)))
        names, rows = [info.name for info in body.input], [list[Value]() for _ in body.output[1 + each :]]
        known, why, before = None, "", self.state.build.unrolled
        if limit != 0 and (go_on is None or self._number(go_on, "condition", 1)):
            ends = [info.name for info in body.output[: 1 + each]]
            ports = Ports(*tensors_of(names[2:], state, ends[1:]), names[0], names[1], ends[0])
            known = known_steps(self.state, self.where, body, ports, limit, self.convert)
            try:
                most = None if may_end_early(body) else limit
                found = self._kept(known, most, ports.carried, {}, (False,) * len(rows))
                return [found.get(k) for k in range(len(self.node.output))]
            except Unrolled as unrolled:
                why = str(unrolled)
        steps = known.steps if known is not None and known.ends else limit
        sure = known.ends if known is not None else not may_end_early(body)
        self._bounded(steps if steps is not None and sure else 0, why)
        sliced = {} if known is None else slices_of_steps(self.state, body, known.each(), known.steps)
        lift = self._lift(sliced, sliced, known.steps if known else 0)
        begun = self.state.build.begun
        state = [tuple(map(begun, v)) if isinstance(v, tuple) else begun(v) for v in state]
        for step in count():
            done = go_on is not None and not self._number(go_on, "condition")
            if done or (limit is not None and step >= limit):
                break
            self._bounded(1, why)
            number = self.state.build.constant(np.array(step, np.int64), "step")
            condition = go_on or self.state.build.constant(np.array(True), "condition")
            own: dict[str, Value | Members] = dict(zip(names, (number, condition, *state), strict=True))
            made = self._step(lift.body, own | self._seen(step, steps or 0, lift))
            go_on, *_ = only_tensors(made[:1])
            check_handed_on(names[2:], state, made[1 : 1 + each])
            state = list(made[1 : 1 + each])
            for values, value in zip(rows, only_tensors(made[1 + each :]), strict=True):
                values.append(value)
        self._say(why, before)
        made_of = zip(rows, body.output[1 + each :], strict=True)
        return [*state, *(self._stacked(v, 0) if v else self._none(info) for v, info in made_of)]

    def _cannot_stay(self, most: int | None) -> str:
        """Why a loop whose steps are not known, or that something else forbids to keep, is unrolled."""
        if not self.state.build.keep_loops:
            return (
                "loops stay loops neither in training nor with --handoff or --weights staged, and with"
                " --stream only along time and without --window"
            )
        if most is not None and most > MOST_STEPS:
            return f"of {most:,} steps, more than the {MOST_STEPS:,} that the plan's check goes through"
        if takes_sequences(self.state, self.node):
            return "a sequence of tensors is read or made in it"
        return "how many steps it makes is not known before its first"

    def _kept(
        self,
        known: Known | None,
        most: int | None,
        carried: Mapping[str, Value],
        scanned: Mapping[str, Scanned],
        rows: tuple[bool, ...],
    ) -> dict[int, Value]:
        """What somebody reads of the results of a loop that stays one, by number; Unrolled if it does not."""
        build = self.state.build
        if known is None or not build.keep_loops or takes_sequences(self.state, self.node):
            raise Unrolled(self._cannot_stay(most))
        each, steps = known.each(), known.steps
        if not steps:
            raise Unrolled
        sources = {**scanned, **slices_of_steps(self.state, self.body, each, steps)}
        lift = self._lift(sources, {*sources, *known.inside} - {*scanned}, steps)
        same = {name: array[0] for name, array in each.items() if (array == array[0]).all()}
        varying = {name: array for name, array in each.items() if name not in same}
        names, made = [*carried], self.node.output
        every = range(len(names), len(names) + len(rows))
        ignored = len(self.body.output) - len(names) - len(rows)
        wanted = [k for k, name in enumerate(made) if name and name in self.state.wanted]
        read = [k for k in every if k in wanted]
        copies = copied_on(self.body, {name: ignored + k for k, name in enumerate(names)})
        still = {name: carried[name] for name in copies if build.is_constant(carried[name].tensor)}
        counts = [k for k, name in enumerate(names) if name in known.before and name not in still]
        going = {name: v for name, v in carried.items() if name not in known.before and name not in still}
        left_out = {ignored + k for k in (*counts, *map(names.index, still), *every) if k not in read}
        loop = KeptLoop(
            next(filter(None, made)),
            without_results(lift.body, left_out | (set(range(ignored)) if known.ends else set())),
            steps,
            going,
            slices_for_steps(build, varying, lift, steps),
            same | ({self.body.input[1].name: np.array(True)} if ignored else {}),
            still,
            0 if known.ends else ignored,
            tuple(rows[k - len(names)] for k in read),
            tuple(k for k, name in enumerate(going) if names.index(name) in wanted),
        )
        found = keep(self.state, self.where, loop, self.convert)
        numbers = [*(names.index(name) for name in going), *read]
        results = {k: build.constant(known.before[names[k]][steps], names[k]) for k in counts}
        results |= {names.index(name): value for name, value in still.items()}
        return results | {numbers[k]: value for k, value in found.items()}

    def scan(self) -> list[Value | None]:
        """Inputs of the body: what goes from step to step, and the slices of a step."""
        if self.state.source.opsets[""] < SINCE:
            raise unsupported(f"Scan of operator set {self.state.source.opsets['']}")
        body, given = self.body, [self._operand(name) for name in self.node.input]
        scanned = self.attributes["num_scan_inputs"].i
        each, makes = len(given) - scanned, len(body.output) - (len(given) - scanned)
        fits = (len(body.input), len(body.output)) == (len(given), len(self.node.output))
        if not 1 <= scanned <= len(given) or not fits or None in given or makes < 0:
            raise bad_model("MM103", "the body does not fit the Scan")
        state, sources = [value for value in given if value is not None][:each], self._sources(given[each:])
        steps = {source.value.shape[source.axis] for source in sources}
        if len(steps) != 1:
            raise bad_model("MM104", f"inputs of {sorted(steps)} steps")
        (total,) = steps
        rows = [list[Value]() for _ in range(makes)]
        names = [info.name for info in body.input]
        scanned = dict(zip(names[each:], sources, strict=True))
        ports = Ports(dict(zip(names, state, strict=False)), [info.name for info in body.output[:each]])
        known = known_steps(self.state, self.where, body, ports, total, self.convert)
        before = self.state.build.unrolled
        try:
            return self._kept_scan(known, total, ports, scanned, makes)
        except Unrolled as unrolled:
            why = str(unrolled)
        self._bounded(total, why)
        lift = self._lift(scanned, (), total)
        state = [self.state.build.begun(value) for value in state]
        for step in range(total):
            own: dict[str, Value | Members] = dict(zip(names[:each], state, strict=True))
            made = only_tensors(self._step(lift.body, own | self._seen(step, total, lift)))
            check_handed_on(names, state, made[:each])
            state = list(made[:each])
            for values, value in zip(rows, made[each:], strict=True):
                values.append(value)
        self._say(why, before)
        axes, backward = (self._integers(f"scan_output_{what}", makes) for what in ("axes", "directions"))
        return [
            *state,
            *(
                self._stacked(values[::-1] if back else values, axis)
                for values, axis, back in zip(rows, axes, backward, strict=True)
            ),
        ]

    def _kept_scan(
        self, known: Known | None, total: int, ports: Ports, scanned: Mapping[str, Scanned], makes: int
    ) -> list[Value | None]:
        """The results of a Scan that stays one, None for those that nobody reads; Unrolled if it does not."""
        axes, backward = (self._integers(f"scan_output_{what}", makes) for what in ("axes", "directions"))
        each = len(ports.carried)
        found = self._kept(known, total, ports.carried, scanned, tuple(map(bool, backward)))
        for k, axis in enumerate(axes, each):
            if k not in found:
                continue
            rank = found[k].rank
            if not -rank <= axis < rank:
                raise bad_model("MM103", f"axis {axis} of results of {rank} axes")
            others = list(range(1, rank))
            others.insert(axis % rank, 0)
            found[k] = found[k].transposed(others)
        return [found.get(k) for k in range(each + makes)]

    def _operand(self, name: str) -> Value | None:
        return only_tensors([operand(self.state, name)])[0] if name else None

    def _integers(self, name: str, length: int) -> list[int]:
        found = list(self.attributes[name].ints) if name in self.attributes else [0] * length
        if len(found) != length:
            raise bad_model("MM103", f"{name} has {len(found)} numbers, not {length}")
        return found

    def _sources(self, values: Sequence[Value | None]) -> list[Scanned]:
        axes = self._integers("scan_input_axes", len(values))
        backward = self._integers("scan_input_directions", len(values))
        found: list[Scanned] = []
        for value, axis, back in zip(values, axes, backward, strict=True):
            assert value is not None
            if not -value.rank <= axis < value.rank:
                raise bad_model("MM103", f"axis {axis} of {list(value.shape)}")
            axis %= value.rank
            found.append(Scanned(value, axis, in_turn(value.shape[axis], bool(back))))
        return found

    def _number(self, value: Value, what: str, operand: int | None = None) -> float:
        """A constant of one number; `operand` of the node, if it is one."""
        build = self.state.build
        if not build.is_constant(value.tensor):
            bind = "" if operand is None else binding_hint(self.state, self.node.input[operand])
            why = f"a {self.node.op_type} whose {what} is known only at run time"
            raise unsupported(why, bind or CUT_OFF)
        if value.size != 1:
            raise bad_model("MM104", f"the {what} has {value.size} elements, not 1")
        return build.array(value).reshape(()).item()

    def _bounded(self, steps: int, why: str) -> None:
        """An error where so many more steps are too many; `why` the loop does not stay one."""
        if steps * max(1, len(self.body.node)) + self.state.build.unrolled > MAX_NODES:
            why = f" ({why})" if why else ""
            what = f"a {self.node.op_type} of {len(self.body.node)} nodes cannot stay a loop{why}"
            raise unsupported(f"{what}, and unrolled it is more than {MAX_NODES:,} nodes", CUT_OFF)

    def _say(self, why: str, before: int) -> None:
        """Why a loop of many nodes was unrolled; `before` are nodes of those before it."""
        nodes = self.state.build.unrolled - before
        if why and nodes > FEW_NODES:
            self.state.build.where = (self.where,)
            self.state.build.warn(
                f"unrolled into {nodes:,} nodes of the model, which are as much code: {why}"
            )

    def _lift(self, sources: Mapping[str, Scanned], skip: Collection[str], steps: int) -> Lifted:
        """The body without what is computed for all steps at once; `skip` are outputs of nodes that slice, or
        of which all is known."""
        inside = [(self.where, node) for node in self.body.node if not set(node.output) & set(skip)]
        own = {info.name for info in self.body.input} | {t.name for t in self.body.initializer} | set(skip)
        problems: list[CompileError] = []
        around = {*self.state.values, *self.state.sequences, *self.state.opaque}
        nodes = ordered(inside, around | own, problems, self.state.lost)
        if problems:
            self.state.problems.found += [located(problem, self.where) for problem in problems]
            raise Stopped
        slices = {
            name: Rows(self._one_under_the_other(source, steps), self._rows(source), source.taken.stride < 0)
            for name, source in sources.items()
            if liftable(source, steps)
        }
        inner = own_names(self.body) | own

        def known(name: str) -> Value | None:
            return None if name in inner else self.state.values.get(name)

        rows, remain = lifted([node for _, node in nodes], slices, self.body, known, self._run)
        read = {name for node in remain for name in reads(node)} | {info.name for info in self.body.output}
        body = helper.make_graph(remain, "", [], list(self.body.output), list(self.body.initializer))
        found = {name: each for name, each in rows.items() if name in read and name not in sources}
        return Lifted(body, found, {name: each for name, each in sources.items() if name in read})

    def _rows(self, source: Scanned) -> int:
        """Rows of one slice."""
        return source.value.shape[0 if source.axis else 1]

    def _one_under_the_other(self, source: Scanned, steps: int) -> Value:
        value, axis = source.value, source.axis
        if value.shape[axis] > steps:  # what no step takes is not computed
            index = self.state.build.constant(np.arange(steps), "steps")
            node = helper.make_node("Gather", ["scanned", "steps"], ["taken"], axis=axis)
            value = self._one(node, {"scanned": value, "steps": index})
        if axis:
            perm = [axis, *(k for k in range(value.rank) if k != axis)]
            value = self._one(
                helper.make_node("Transpose", ["scanned"], ["turned"], perm=perm), {"scanned": value}
            )
        shape = self.state.build.constant(np.array([-1, value.shape[-1]], np.int64), "shape")
        given = {"scanned": value, "shape": shape}
        return self._one(helper.make_node("Reshape", ["scanned", "shape"], ["rows"]), given)

    def _seen(self, step: int, total: int, body: Lifted) -> dict[str, Value]:
        """What a step sees of the inputs, and of what was made of them for all steps."""
        found: dict[str, Value] = {}
        for name, source in body.sources.items():
            found[name] = self._slice(source, step)
        for name, each in body.rows.items():
            at = (total - 1 - step if each.back else step) * each.rows
            index = self.state.build.constant(np.arange(at, at + each.rows), "step")
            node = helper.make_node("Gather", ["all", "step"], ["rows"], axis=0)
            found[name] = self._one(node, {"all": each.value, "step": index})
        return found

    def _step(self, body: GraphProto, given: Mapping[str, Value | Members]) -> tuple[Value | Members, ...]:
        self.state.build.unrolled += max(1, len(body.node))
        made = inline_all(self.state, self.where, body, given, self.convert)
        if None in made:
            raise Stopped
        return tuple(value for value in made if value is not None)

    def _slice(self, source: Scanned, step: int) -> Value:
        """What a step sees of an input."""
        begin, rows = source.taken.begin(step), source.taken.rows
        numbers = np.arange(begin, begin + rows) if rows else np.array(begin, np.int64)
        index = self.state.build.constant(numbers, "step")
        node = helper.make_node("Gather", ["scanned", "step"], ["slice"], axis=source.axis)
        return self._one(node, {"scanned": source.value, "step": index})

    def _stacked(self, values: list[Value], axis: int) -> Value:
        """What all steps made, along a new axis."""
        if not values:
            raise self._made_nothing()
        rank = values[0].rank + 1
        if not -rank <= axis < rank:
            raise bad_model("MM103", f"axis {axis} of results of {rank} axes")
        axis %= rank
        if len({value.shape for value in values}) > 1:
            shapes = ", ".join(dict.fromkeys(str(list(value.shape)) for value in values))
            raise bad_model("MM104", f"its steps make rows of shapes {printable(shapes, 100)}")
        made: dict[str, Value] = {}
        for k, value in enumerate(values):
            made[f"row{k}"] = with_axis(self.state, self.where, value, axis, self.convert)
        return self._one(helper.make_node("Concat", list(made), ["all"], axis=axis), made)

    def _none(self, info: ValueInfoProto) -> Value:
        """What no step makes: an array without elements, of the shape that the body declares."""
        declared = info.type.tensor_type
        shape = [dim.dim_value for dim in declared.shape.dim]
        if not declared.HasField("shape") or 0 in shape or declared.elem_type not in DTYPES:
            raise self._made_nothing()
        return self.state.build.constant(np.zeros((0, *shape), DTYPES[declared.elem_type].numpy))

    def _made_nothing(self) -> CompileError:
        return unsupported(f"a {self.node.op_type} of no steps, whose results have no elements", CUT_OFF)

    def _one(self, node: NodeProto, given: dict[str, Value]) -> Value:
        """The result of one more node."""
        return result_of(self.state, self.where, node, given, self.convert)
