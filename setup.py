"""Builds cnnpy._core: csrc/base, program and bind once, csrc/kernels once for each row of the variant table.

CNNPY_DEBUG=1     no optimisation, asserts on
CNNPY_SANITIZE=1  address and undefined-behaviour sanitizers; CNNPY_SANITIZE=thread  the race detector
CNNPY_COVERAGE=1  counts what runs of the source; with clang
CNNPY_WERROR=1    warnings are errors (what CI builds with)
CNNPY_INSTRUCTION_SETS="base avx2"  these alone, for builds that only this machine runs
"""

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

CSRC = Path("csrc")
X86 = platform.machine().lower() in ("x86_64", "amd64")

# dtype -> definitions; instruction set -> (bytes of a vector, flags). Every pair is one variant of every kernel.
DTYPES = {"f32": ["-DCNN_DTYPE=f32"], "f64": ["-DCNN_DTYPE=f64", "-DCNN_DOUBLE=1"]}
INSTRUCTION_SETS = {"base": (16, [])}
if X86:
    INSTRUCTION_SETS["avx2"] = (32, ["-mavx2", "-mfma"])
    INSTRUCTION_SETS["avx512"] = (64, ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"])

LEFT_OUT = [f"-DCNN_WITHOUT_{isa}" for isa in INSTRUCTION_SETS if isa not in os.environ.get("CNNPY_INSTRUCTION_SETS", isa).split()]
INSTRUCTION_SETS = {isa: flags for isa, flags in INSTRUCTION_SETS.items() if f"-DCNN_WITHOUT_{isa}" not in LEFT_OUT}

FLAGS = ["-std=gnu11", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wvla", "-Wframe-larger-than=16384"]
# No -ffast-math: it would drop NaN and change the whole process's floating-point state when linked.
ARITHMETIC = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
LINK = ["-pthread"]

# Other builds than the one for use have no assembly: nothing would look into it, and where C is not optimised its products are not fused, as those are.
ALL_IN_C = ["-DCNN_WITHOUT_ASSEMBLY"]
if os.environ.get("CNNPY_DEBUG") == "1":
    FLAGS += ["-O0", "-g", "-UNDEBUG", *ALL_IN_C]
elif os.environ.get("CNNPY_SANITIZE") in ("1", "thread"):
    MEMORY = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    SANITIZERS = MEMORY if os.environ["CNNPY_SANITIZE"] == "1" else ["-fsanitize=thread"]
    FLAGS = [f for f in FLAGS if "frame" not in f] + ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", *ALL_IN_C, *SANITIZERS]
    LINK += SANITIZERS
elif os.environ.get("CNNPY_COVERAGE") == "1":
    COUNTED = ["-fprofile-instr-generate"]
    FLAGS = [f for f in FLAGS if "frame" not in f] + ["-O1", "-g0", *COUNTED, "-fcoverage-mapping", *ALL_IN_C]
    LINK += COUNTED
else:
    FLAGS += ["-O3", "-g0"]
if os.environ.get("CNNPY_WERROR") == "1":
    FLAGS += ["-Werror"]


class BuildVariants(build_ext):
    """Compiles the object files of all variants in parallel, those that are older than anything they could depend on."""

    def build_extension(self, ext):
        once = [
            (source, "once", FLAGS + LEFT_OUT) for folder in ("base", "program", "bind") for source in sorted((CSRC / folder).glob("*.c"))
        ]
        variants = [
            (source, f"{dtype}_{isa}", FLAGS + ARITHMETIC + definitions + [f"-DCNN_ISA={isa}", f"-DCNN_VECTOR_BYTES={width}", *flags])
            for source in sorted((CSRC / "kernels").glob("*.c"))
            for dtype, definitions in DTYPES.items()
            for isa, (width, flags) in INSTRUCTION_SETS.items()
        ]
        headers = [*CSRC.rglob("*.h"), *CSRC.rglob("*.def"), Path("setup.py")]
        newest = max(path.stat().st_mtime for path in headers)
        root = Path(self.build_temp) / (
            "-".join(k + v for k in ("CNNPY_DEBUG", "CNNPY_SANITIZE", "CNNPY_COVERAGE") if (v := os.environ.get(k, ""))) or "release"
        )

        def compile_one(job):
            source, folder, flags = job
            output = root / folder
            target = output / source.with_suffix(".o")
            stamp = target.with_suffix(".flags")
            text = " ".join([*self.compiler.compiler_so, *flags])
            fresh = target.exists() and target.stat().st_mtime > max(newest, source.stat().st_mtime)
            if self.force or not fresh or not stamp.exists() or stamp.read_text() != text:
                self.compiler.compile([str(source)], output_dir=str(output), include_dirs=ext.include_dirs, extra_postargs=flags)
                stamp.write_text(text)
            return str(target)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, variants + once))
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), extra_postargs=LINK, build_temp=self.build_temp)


class BuildWithLessons(build_py):
    """Puts the notebooks into the package, where ``cnnpy notebooks`` finds them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "cnnpy" / "notebooks"
            target.mkdir(parents=True, exist_ok=True)
            for lesson in sorted(Path("notebooks").glob("*.ipynb")):
                self.copy_file(str(lesson), str(target / lesson.name))


setup(
    ext_modules=[Extension("cnnpy._core", sources=[], include_dirs=[numpy.get_include()])],
    cmdclass={"build_ext": BuildVariants, "build_py": BuildWithLessons},
)
