"""Compiled programs: the calls of one eager run, recorded, rewritten, and run by one loop in C over one arena."""

from cnnpy.compiler.model import CompiledModel, compile
from cnnpy.compiler.program import Profile, Program
from cnnpy.compiler.step import CompiledStep, compile_step

__all__ = ["CompiledModel", "CompiledStep", "Profile", "Program", "compile", "compile_step"]
