"""compile_step: training steps as programs, one a shape of the batch."""

from __future__ import annotations

import numpy as np

from cnnpy import _core
from cnnpy.autograd import Tensor
from cnnpy.compiler.base import Bound, Compiled, as_input, find_checks, in_range, modes_of, uninterrupted
from cnnpy.compiler.program import Program
from cnnpy.compiler.trace import module_arrays, record
from cnnpy.functional._notes import noting

__all__ = ["CompiledStep", "compile_step"]

UPDATES = ("running_update", "sgd_update", "adam_update", "rmsprop_update", "adagrad_update", "adadelta_update")


class CompiledStep(Compiled):
    """A training step as a program; made by :func:`compile_step`.

    Attributes
    ----------
    output : ndarray
        The model's result in the latest step, or whatever it is where it is not one Tensor. A program's next step overwrites it, and the gradients
        in ``.grad`` too.
    """

    function = "compile_step"

    def __init__(self, model, loss, optimizer):
        super().__init__(model)
        self.loss, self.optimizer = loss, optimizer
        self.output = None
        self._pending = None

    def __call__(self, x, y):
        """One step: forward, backward and update; returns the loss before the update as a float."""
        with self._lock:
            value = self._first(x, y, True)
            if self._pending is not None:
                self.update()
        return value

    def gradients(self, x, y):
        """The first half of a step: forward and backward. Leaves the gradients in ``.grad`` and returns the loss; :meth:`update` is the other half."""
        return self._first(x, y, False)

    def _first(self, x, y, whole):
        """The first half of a step; with `whole` also the other half where a program runs it: then nothing is left for :meth:`update`."""
        x, y = as_input(self.function, "x", x, False), as_input(self.function, "y", y, True)
        with self._lock:
            self._pending = None
            parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
            key = (
                x.shape,
                x.dtype.char,
                y.shape,
                y.dtype.char,
                tuple(modes_of(self.model, [])),
                tuple(p.requires_grad for p in parameters),
            )
            made = self._programs.get(key)
            if made is None or isinstance(made, tuple):
                return self._trace(key, made, x, y)
            if made is False or not in_range(made.checks, (x, y)):
                return self._eager(x, y)
            if not made.rebind(x, y):
                del self._programs[key]
                return self._eager(x, y)
            value = made.forward_backward(whole)
            self.output = made.program.view("output")
            self._latest = made
            if whole:
                made.update(True)
            else:
                self._pending = made
            return value

    def update(self):
        """The second half of a step: the optimiser's update, and the running statistics."""
        with self._lock:
            made, self._pending = self._pending, None
            if isinstance(made, _BoundStep):
                made.update()
            elif made is not None:
                made()
            else:
                raise RuntimeError("compile_step: update has no gradients; call gradients(x, y) first")

    def _eager(self, x, y):
        self.optimizer.zero_grad()
        output = self.model(x)
        result = self.loss(output, y)
        result.backward()
        self.output = getattr(output, "_data", output)
        self._pending = self.optimizer.step
        return result.item()

    def _known(self, x, y):
        """The parameters, the places of other arrays, and all arrays that forward and backward may touch, with names."""
        modules = [self.model] + ([self.loss] if hasattr(self.loss, "modules") else [])
        parameters, buffers, constants = module_arrays(*modules)
        names = {id(p): n for n, p in self.model.named_parameters()}
        ids = {id(p) for p in parameters}
        parameters = parameters + [p for g in self.optimizer.param_groups for p in g["params"] if id(p) not in ids]
        rows = [("x", x), ("y", y)]
        rows += [(names.get(id(p), "parameter"), p._data) for p in parameters]
        rows += [(name, getattr(module, name)) for module, name in buffers + constants]
        return parameters, buffers + constants, rows

    def _states(self, parameters, names):
        """The arrays of the optimiser's state, with names."""
        state = self.optimizer.state
        return [
            (f"{n}.{k}", v)
            for p, n in zip(parameters, names, strict=True)
            for k, v in state.get(id(p), {}).items()
            if isinstance(v, np.ndarray)
        ]

    def _trace(self, key, before, x, y):
        """The first two calls of a shape are eager and recorded; where they agree they become a program."""
        hooks = self._hooks()
        if hooks or x.size == 0 or y.size == 0:
            self._fall_back(key, hooks or "the batch is empty")
            return self._eager(x, y)
        self.optimizer.zero_grad()
        parameters, slots, rows = self._known(x, y)
        snapshots = [(name, array, array.copy()) for name, array in rows[2 + len(parameters) :]]

        def call(place):
            output = self.model(x)
            result = self.loss(output, y)
            result.backward()
            place("loss", result._data)
            if isinstance(output, Tensor):
                place("output", output._data)
            for i, p in enumerate(parameters):
                if p.grad is not None:
                    place(f"grad {i}", p.grad)
            return output, result

        with noting() as notes:
            (output, result), trace = record(call, [array for _, array in rows])
        _core.trim_memory()  # the eager call's intermediate results: a program has its own
        trace.notes = notes
        self.output = getattr(output, "_data", output)
        self._pending = self.optimizer.step
        value = result.item()
        cause = trace.cause
        if cause is None and not isinstance(output, Tensor):
            cause = "the model's result is not one Tensor"
        counted = [n[1] for n in notes if n[0] == "count"]
        written = {b for line in trace.lines for b in line.writes}
        for i, (name, array, kept) in enumerate(snapshots):
            if cause is None and 2 + len(parameters) + i not in written and not any(array is c for c in counted):
                if not np.array_equal(array, kept, equal_nan=True):
                    cause = f"{name} is changed outside the recorded operations"
        if cause is None and before is not None:
            cause = before[0].differs(trace)
        if cause is not None:
            self._fall_back(key, cause)
            return value
        if before is None:
            self._programs[key] = (trace,)
            return value
        self._pending = lambda: self._record_update(key, trace, parameters, slots, rows)
        return value

    def _record_update(self, key, trace, parameters, slots, rows):
        """The update that belongs to the second recording; recorded as well, it completes the program."""
        states = self._states(parameters, [name for name, _ in rows[2 : 2 + len(parameters)]])
        rows = rows + states
        trace.insert([array for _, array in states])
        grads = [(f"grad {i}", p.grad) for i, p in enumerate(parameters) if p.grad is not None]
        base = len(rows)
        _, update = record(lambda place: self.optimizer.step(), [array for _, array in rows] + [g for _, g in grads])
        if update.cause is not None or any(b >= base + len(grads) for line in update.lines for b in line.writes):
            self._fall_back(key, update.cause or "the optimiser computes outside the recorded operations")
            return
        for line in update.lines:  # gradients lie where the backward pass leaves them
            for k, place in enumerate(line.arrays):
                if place is not None and place[0] >= base:
                    buffer, offset = trace.places[grads[place[0] - base][0]][:2]
                    line.arrays[k] = (buffer, offset + place[1])
        trace.lines.extend(update.lines)
        try:
            program = Program(trace, [name for name, _ in rows], last=UPDATES)
        except MemoryError as error:
            self._fall_back(key, f"there is no memory for its program ({error})")
            return
        made = _BoundStep(program, self, parameters, slots, trace.notes)
        self._keep(key, made)
        self._latest = made

    def profile(self, x, y, repeat=5):
        """Times each line of the program for `x` and `y`, a step each time; returns a :class:`Profile`, whose text is a table."""
        for _ in range(3):
            self(x, y)
        made = self._latest
        if made is None:
            raise RuntimeError("compile_step: the model runs eagerly, there is no program to time")

        def run(seconds):
            self.gradients(x, y)
            made.forward_backward(True, seconds)
            made.update(True, seconds)
            self._pending = None

        return made.program.profile(run, repeat)


class _BoundStep(Bound):
    def __init__(self, program, step, parameters, slots, notes):
        super().__init__(program)
        self.step, self.parameters, self.slots = step, parameters, slots
        self.state = step.optimizer.state
        self.checks = find_checks(program.lines, 2)
        self.counters = [n[1] for n in notes if n[0] == "count"]
        self.names = program.names
        self.graded = [(p, program.view(f"grad {i}")) for i, p in enumerate(parameters) if f"grad {i}" in program.places]
        self.new = True
        self.loss = program.view("loss")
        self.masks: list = []
        self.ahead: dict = {}
        for _, layer, rng in (n for n in notes if n[0] == "mask"):
            problems = []
            for key in layer.keys(rng):
                at = [i for i, line in enumerate(program.lines) if line.entry.name == "dropout" and line.number("key") == key]
                problems.append([program.problems(i, 1) for i in at])
            self.masks.append((layer, problems))
        first = program.split
        while first < len(program.lines) and program.lines[first].entry.name == "running_update":
            first += 1
        self.updates = self._updates(first)

    def _updates(self, first):
        """For each group of the optimiser its parameters with a gradient, and the problems of their updates."""
        updates = []
        at = first
        for group in self.step.optimizer.param_groups:
            members = [p for p in group["params"] if any(p is q for q, _ in self.graded)]
            if members:
                updates.append([group, members, self.program.problems(at, len(members)), None])
                at += len(members)
        return updates

    def rebind(self, x, y):
        """Brings the program to the arrays that the model and the optimiser have now; False where they do not fit it any more."""
        program, bound = self.program, self.program.bound
        program.bind(0, x)
        program.bind(1, y)
        i = 2
        try:
            for p in self.parameters:
                if p._data is not bound[i]:
                    program.bind(i, p._data)
                i += 1
            for module, name in self.slots:
                array = getattr(module, name, None)
                if array is not bound[i]:
                    program.bind(i, array)
                i += 1
            optimizer = self.step.optimizer
            if optimizer.state is not self.state:
                for p in self.parameters:
                    for array in optimizer.state.get(id(p), {}).values():
                        if isinstance(array, np.ndarray):
                            program.bind(i, array)
                            i += 1
                if i != len(bound):
                    return False
                self.state = optimizer.state
        except (ValueError, IndexError, AttributeError):
            return False
        return True

    def forward_backward(self, together=False, seconds=None):
        """Changes nothing but ``.grad``; masks are counted by the update. ``together``: gradients that can run together with their update wait for it."""
        if self.new:  # the eager call's gradients go before the program's first touch their memory
            self.new = False
            for p, _ in self.graded:
                p.grad = None
            _core.trim_memory()
        self.ahead = {}
        for layer, problems in self.masks:
            calls = self.ahead.get(id(layer), (layer, 0))[1]
            self.ahead[id(layer)] = layer, calls + 1
            for key, ones in zip(layer.keys(layer.peek(calls)), problems, strict=True):
                for problem in ones:
                    problem["key"] = key
        self.program.run(0, self.program.ready if together else self.program.split, seconds=seconds)
        for p, gradient in self.graded:
            p.grad = gradient
        return float(self.loss)

    def update(self, together=False, seconds=None):
        with uninterrupted():
            self._update(together, seconds)

    def _update(self, together, seconds):
        optimizer = self.step.optimizer
        for p, gradient in self.graded:  # who changed gradients between the halves gets what he asked for
            if p.grad is not gradient:
                gradient[...] = 0 if p.grad is None else p.grad
        for entry in self.updates:
            group, members, problems, before = entry
            states = [self.state.get(id(p)) for p in members]
            numbers = optimizer.numbers(group, states[0], 1)
            if states[0] and "step" in states[0] and any(s["step"] != states[0]["step"] for s in states):
                for i, s in enumerate(states):
                    for name, value in optimizer.numbers(group, s, 1).items():
                        problems[name][i] = value
                numbers = None
            elif numbers != before:
                for name, value in numbers.items():
                    problems[name] = value
            entry[3] = numbers
        self.program.run(self.program.ready if together else self.program.split, None, True, together, seconds)
        for _, members, _, _ in self.updates:
            for p in members:
                state = self.state.get(id(p))
                if state and "step" in state:
                    state["step"] += 1
                p._version += 1
        for counter in self.counters:
            counter[...] += 1
        for layer, calls in self.ahead.values():
            layer.skip(calls)
        self.ahead = {}


def compile_step(model, loss, optimizer):
    """A training step as a program: forward, backward and update in one call of the core.

    Parameters
    ----------
    model : cnnpy.nn.Module
    loss : callable (output, target) -> Tensor
    optimizer : cnnpy.optim.Optimizer

    Returns
    -------
    CompiledStep
        ``step(x, y)`` does what ``optimizer.zero_grad(); l = loss(model(x), y); l.backward(); optimizer.step()`` does and returns the loss;
        ``print(step)`` shows the program, ``step.profile(x, y)`` its times, ``step.memory()`` its bytes, ``step.output`` the model's result.

    Notes
    -----
    The first two calls of a shape and dtype, of a set of layers in training mode and of parameters that take gradients, run eagerly and are
    recorded; they become a program if they agree. Otherwise the step runs eagerly ever after, with one RuntimeWarning that names the cause.
    Ctrl-C is noticed between lines of the forward and backward pass; the update is made whole or not at all. Weight gradients of dense layers on at
    most eight rows wait for it: each piece of them is applied as soon as it is computed, one pass over the weights instead of two, with the same
    bits. ``step.gradients(x, y)`` and ``step.update()`` are the halves of a step, for who wants to look at, or change, gradients between them.
    """
    for name, value, attribute in (("model", model, "named_modules"), ("optimizer", optimizer, "param_groups")):
        if not hasattr(value, attribute):
            raise TypeError(f"compile_step: {name} is {type(value).__name__}, expected {'a Module' if name == 'model' else 'an Optimizer'}")
    if not callable(loss):
        raise TypeError(f"compile_step: loss is {type(loss).__name__}, expected a callable (output, target)")
    return CompiledStep(model, loss, optimizer)
