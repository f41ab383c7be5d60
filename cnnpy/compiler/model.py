"""compile: inference as programs, one an input shape."""

from __future__ import annotations

import numpy as np

from cnnpy.autograd import Tensor, no_grad
from cnnpy.compiler.base import Bound, Compiled, as_input, find_checks, in_range
from cnnpy.compiler.program import Program
from cnnpy.compiler.trace import module_arrays, record

__all__ = ["CompiledModel", "compile"]


class CompiledModel(Compiled):
    """Inference as a program; made by :func:`compile`. Calls take and give arrays like the model in evaluation mode."""

    function = "compile"

    def refresh(self):
        """Brings the programs to the parameters and statistics of now: call it after they were changed."""
        with self._lock:
            slots = self._slots()
            before = dict(self._programs)
            self._programs.clear()  # each comes back once it holds the new weights whole
            self._latest = None
            for key, made in before.items():
                if made is False or made.refresh(slots):
                    self._programs[key] = made

    def _slots(self):
        """The arrays that the model holds now."""
        parameters, buffers, constants = module_arrays(self.model)
        return [*(p._data for p in parameters), *(getattr(*s) for s in buffers + constants)]

    def __call__(self, x):
        """The model's result for `x`, an ndarray."""
        x = as_input(self.function, "x", x, False)
        key = (x.shape, x.dtype.char)
        with self._lock:
            made = self._programs.get(key)
            if made is None:
                return self._first(key, x)
            if made is False:
                return self._eager(x)
            program = made.program
            if not in_range(made.checks, (x,)):
                return self._eager(x)
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
        known = [x, *(p._data for p in parameters), *(getattr(*s) for s in slots)]

        def call(place):
            result = self._eager(x)
            if isinstance(result, np.ndarray):
                place("output", result)
            return result

        return record(call, known)

    def _follows_data(self, trace, x, slots, parameters):
        """How the calls differ for other numbers of the same shape; None where they do not. Whole numbers only change places: they stay in range."""
        other = np.flip(x.ravel()).reshape(x.shape)
        other = np.ascontiguousarray(other * x.dtype.type(-0.75) if x.dtype.kind == "f" else other)
        try:
            return trace.differs(self._record(other, slots, parameters)[1])
        except Exception as error:
            return f"it refuses other numbers ({type(error).__name__}: {error})"

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
        if cause is None and trace.lines:
            cause = self._follows_data(trace, x, slots, parameters)
        if cause is not None:
            self._fall_back(key, cause)
            return result
        names = {id(p): n for n, p in self.model.named_parameters()}
        try:
            program = Program(trace, ["x", *(names[id(p)] for p in parameters), *(name for _, name in slots)], packed=True)
        except MemoryError as error:
            self._fall_back(key, f"there is no memory for its program ({error})")
            return result
        made = _BoundModel(program)
        made.checks = find_checks(program.lines, 1)
        self._keep(key, made)
        self._latest = made
        program.run()
        return program.view("output").copy(order="K")  # what later calls would give, to the bit

    def profile(self, x, repeat=5):
        """Times each line of the program for `x`; returns a :class:`Profile`, whose text is a table."""
        self(x)
        made = self._programs[(np.shape(x), as_input(self.function, "x", x, False).dtype.char)]
        if made is False:
            raise RuntimeError("compile: the model runs eagerly, there is no program to time")
        made.program.bind(0, as_input(self.function, "x", x, False))
        return made.program.profile(lambda seconds: made.program.run(seconds=seconds), repeat)


class _BoundModel(Bound):
    def refresh(self, arrays):
        """Whether the arrays fit the program, which then uses them."""
        if len(arrays) + 1 != len(self.program.bound):
            return False
        try:
            for i, array in enumerate(arrays):
                if array is not self.program.bound[1 + i]:
                    self.program.bind(1 + i, array)
        except ValueError:
            return False
        self.program.refold()
        return True


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
