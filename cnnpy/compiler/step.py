"""compile and compile_step: a model's calls as programs, one an input shape."""

from __future__ import annotations

import threading
import warnings

import numpy as np

from cnnpy.autograd import Tensor, no_grad, noting
from cnnpy.compiler.program import Program
from cnnpy.compiler.trace import module_arrays, record
from cnnpy.functional.dropout import _key

__all__ = ["CompiledModel", "CompiledStep", "compile", "compile_step"]

MOST_PROGRAMS = 8  # shapes that are kept; the oldest goes
UPDATES = ("running_update", "sgd_update", "adam_update", "rmsprop_update", "adagrad_update", "adadelta_update")


class _Eager(Exception):
    """Why a call cannot become a program."""


def _input(function, name, x, integers):
    """The array as programs take it: C order, machine byte order, int64 for whole numbers of a target."""
    if isinstance(x, Tensor):
        x = x._data
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{function}: {name} has dtype {x.dtype}, expected real numbers")
    if x.dtype.kind in "iu" and x.dtype != np.int64 and (integers or x.dtype.itemsize >= 4):
        x = x.astype(np.int64)
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    return np.ascontiguousarray(x, x.dtype.newbyteorder("=")) if x.ndim else np.array(x, x.dtype.newbyteorder("="))


def _get(slot):
    module, name = slot
    return getattr(module, name)


def _modes(model):
    return tuple(m.training for m in model.modules())


def _checks(lines, known):
    """Whole numbers that must lie in a range, as eager calls check them: (known array, highest, value that is let through)."""
    checks = set()
    for line in lines:
        if line.entry.name == "cross_entropy_forward" and not line.number("probabilities"):
            place = line.array("target")
            checks.add((place[0], line.number("classes") - 1, line.number("ignore_index"), "target"))
        elif line.entry.name == "embedding_forward":
            place = line.array("index")
            checks.add((place[0], line.number("rows") - 1, None, "indices"))
    return [c for c in checks if c[0] < known]


def _check(function, array, high, passed, what):
    if array.size and (array.min() < 0 or array.max() > high):
        bad = (array < 0) | (array > high)
        if passed is not None:
            bad &= array != passed
        if bad.any():
            i = int(np.flatnonzero(bad.ravel())[0])
            raise ValueError(f"{function}: {what} holds {array.ravel()[i]} at position {i}, expected 0 to {high}")


class _Compiled:
    """What compiled models and steps share: programs by shape, the fall back to eager calls, and what they say of themselves."""

    function = ""

    def __init__(self, model):
        self.model = model
        self._programs: dict = {}
        self._latest = None
        self._lock = threading.Lock()
        self._warned = False

    def _fall_back(self, key, cause):
        self._programs[key] = False
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.function}: the model runs eagerly, because {cause}", RuntimeWarning, stacklevel=4)

    def _keep(self, key, made):
        self._programs.pop(key, None)
        self._programs[key] = made
        while sum(isinstance(p, _Bound) for p in self._programs.values()) > MOST_PROGRAMS:
            oldest = next(k for k, p in self._programs.items() if isinstance(p, _Bound))
            del self._programs[oldest]

    @property
    def program(self):
        """The program of the latest shape, None before there is one."""
        return self._latest.program if self._latest is not None else None

    def memory(self):
        """Bytes of the latest program: see :meth:`Program.memory`."""
        if self.program is None:
            raise RuntimeError(f"{self.function}: there is no program yet; call it first")
        return self.program.memory()

    def __str__(self):
        return f"({self.function}: no program yet; call it first)" if self.program is None else str(self.program)

    def _repr_html_(self):
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"

    def _hooks(self):
        for name, module in self.model.named_modules():
            if module._forward_hooks:
                return f"{name or 'the model'} has a forward hook"
        return None


class _Bound:
    """A program and the arrays of the model that it is bound to."""

    def __init__(self, program):
        self.program = program
        self.checks: list = []


class CompiledModel(_Compiled):
    """Inference as a program; made by :func:`compile`. Calls take and give arrays like the model in evaluation mode."""

    function = "compile"

    def refresh(self):
        """Makes the programs anew at the next call: after parameters or statistics were changed."""
        with self._lock:
            self._programs.clear()
            self._latest = None

    def __call__(self, x):
        """The model's result for `x`, an ndarray."""
        x = _input(self.function, "x", x, False)
        key = (x.shape, x.dtype.char)
        with self._lock:
            made = self._programs.get(key)
            if made is None:
                return self._first(key, x)
            if made is False:
                return self._eager(x)
            program = made.program
            for check in made.checks:
                _check(self.function, x, *check[1:])
            program.bind(0, x)
            program.run()
            self._latest = made
            return program.view("output").copy(order="K")

    def _eager(self, x):
        modes = [(m, m.training) for m in self.model.modules()]
        self.model.eval()
        try:
            with no_grad():
                result = self.model(x)
        finally:
            for module, training in modes:
                object.__setattr__(module, "training", training)
        return result._data if isinstance(result, Tensor) else result

    def _record(self, x, slots, parameters):
        known = [x, *(p._data for p in parameters), *(_get(s) for s in slots)]

        def call(place):
            result = self._eager(x)
            if isinstance(result, np.ndarray):
                place("output", result)
            return result

        return record(call, known)

    def _first(self, key, x):
        parameters, buffers, constants = module_arrays(self.model)
        slots = buffers + constants
        hooks = self._hooks()
        if hooks or x.size == 0:
            self._fall_back(key, hooks or "the batch is empty")
            return self._eager(x)
        result, trace = self._record(x, slots, parameters)
        cause = trace.cause
        if cause is None and not isinstance(result, np.ndarray):
            cause = "its result is not one array"
        if cause is None and trace.lines and x.dtype.kind == "f":  # other numbers: do the calls follow the data?
            other = np.ascontiguousarray(np.flip(x.ravel()).reshape(x.shape) * x.dtype.type(-0.75))
            cause = trace.differs(self._record(other, slots, parameters)[1])
        if cause is not None:
            self._fall_back(key, cause)
            return result
        names = {id(p): n for n, p in self.model.named_parameters()}
        program = Program(trace, ["x", *(names[id(p)] for p in parameters), *(name for _, name in slots)])
        made = _Bound(program)
        made.checks = [c for c in _checks(program.lines, 1) if c[0] == 0]
        self._keep(key, made)
        self._latest = made
        return result

    def profile(self, x, repeat=5):
        """Times each line of the program for `x`; returns a :class:`Profile`, whose text is a table."""
        self(x)
        made = self._programs[(np.shape(x), _input(self.function, "x", x, False).dtype.char)]
        if made is False:
            raise RuntimeError("compile: the model runs eagerly, there is no program to time")
        made.program.bind(0, _input(self.function, "x", x, False))
        return made.program.profile(lambda seconds: made.program.run(seconds=seconds), repeat)


class CompiledStep(_Compiled):
    """A training step as a program; made by :func:`compile_step`.

    Attributes
    ----------
    output : ndarray
        The model's result in the latest step. A program's next step overwrites it, and the gradients in ``.grad`` too.
    """

    function = "compile_step"

    def __init__(self, model, loss, optimizer):
        super().__init__(model)
        self.loss, self.optimizer = loss, optimizer
        self.output = None
        self._pending = None

    def __call__(self, x, y):
        """One step: forward, backward and update; returns the loss before the update as a float."""
        value = self.gradients(x, y)
        self.update()
        return value

    def gradients(self, x, y):
        """The first half of a step: forward and backward. Leaves the gradients in ``.grad`` and returns the loss; :meth:`update` is the other half."""
        x, y = _input(self.function, "x", x, False), _input(self.function, "y", y, True)
        with self._lock:
            self._pending = None
            parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
            key = (x.shape, x.dtype.char, y.shape, y.dtype.char, _modes(self.model), tuple(p.requires_grad for p in parameters))
            made = self._programs.get(key)
            if made is None or isinstance(made, tuple):
                return self._trace(key, made, x, y)
            if made is False or not made.rebind(x, y):
                if made is not False:
                    del self._programs[key]
                return self._eager(x, y)
            value = made.forward_backward()
            self.output = made.program.view("output")
            self._latest = self._pending = made
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
        self.output = output._data
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
        return [(f"{n}.{k}", v) for p, n in zip(parameters, names, strict=True) for k, v in state.get(id(p), {}).items() if isinstance(v, np.ndarray)]

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
        trace.notes = notes
        self.output = output._data
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
        program = Program(trace, [name for name, _ in rows], last=UPDATES)
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
            made.forward_backward(seconds)
            made.update(seconds)
            self._pending = None

        return made.program.profile(run, repeat)


class _BoundStep(_Bound):
    def __init__(self, program, step, parameters, slots, notes):
        super().__init__(program)
        self.step, self.parameters, self.slots = step, parameters, slots
        self.state = step.optimizer.state
        self.checks = _checks(program.lines, 2)
        self.counters = [n[1] for n in notes if n[0] == "count"]
        self.names = program.names
        self.graded = [(p, program.view(f"grad {i}")) for i, p in enumerate(parameters) if f"grad {i}" in program.places]
        self.loss = program.view("loss")
        self.masks = []
        for _, layer, rng in (n for n in notes if n[0] == "mask"):
            key = _key("dropout", rng)
            at = [i for i, line in enumerate(program.lines) if line.entry.name == "dropout" and line.number("key") == key]
            self.masks.append((layer, [program.problems(i, 1) for i in at]))
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
        for check in self.checks:
            _check(self.step.function, (x, y)[check[0]], *check[1:])
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

    def forward_backward(self, seconds=None):
        drawn = [(layer, layer._rng) for layer, _ in self.masks]
        for layer, problems in self.masks:
            key = _key("dropout", layer.next_mask())
            for problem in problems:
                problem["key"] = key
        try:
            self.program.run(0, self.program.split, False, seconds)
        except BaseException:
            for layer, rng in drawn[::-1]:
                layer._rng = rng
            raise
        for p, gradient in self.graded:
            p.grad = gradient
        return float(self.loss)

    def update(self, seconds=None):
        optimizer = self.step.optimizer
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
        self.program.run(self.program.split, None, True, seconds)
        for _, members, _, _ in self.updates:
            for p in members:
                state = self.state.get(id(p))
                if state and "step" in state:
                    state["step"] += 1
                p._version += 1
        for counter in self.counters:
            counter[...] += 1


def compile(model):
    """Inference as a program: one call of the core for the whole model.

    Parameters
    ----------
    model : cnnpy.nn.Module

    Returns
    -------
    CompiledModel
        ``predict(x)`` gives what ``model(x)`` gives in evaluation mode, an ndarray; ``print(predict)`` shows the program, ``predict.profile(x)``
        its times, ``predict.memory()`` its bytes. After parameters changed call ``predict.refresh()``.

    Notes
    -----
    The first call of an input shape and dtype runs eagerly and is recorded. A model whose calls cannot be recorded, or depend on the data, runs
    eagerly ever after, with one RuntimeWarning that names the cause.
    """
    if not hasattr(model, "named_modules"):
        raise TypeError(f"compile: model is {type(model).__name__}, expected a Module")
    return CompiledModel(model)


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
    Ctrl-C is noticed between lines of the forward and backward pass; the update is made whole or not at all.
    """
    for name, value, attribute in (("model", model, "named_modules"), ("optimizer", optimizer, "param_groups")):
        if not hasattr(value, attribute):
            raise TypeError(f"compile_step: {name} is {type(value).__name__}, expected {'a Module' if name == 'model' else 'an Optimizer'}")
    if not callable(loss):
        raise TypeError(f"compile_step: loss is {type(loss).__name__}, expected a callable (output, target)")
    return CompiledStep(model, loss, optimizer)
