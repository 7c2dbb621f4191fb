"""Same rules and seed, same bytes: with the processor's vector extensions and without, on other BLAS kernels, with more threads."""

import json
import os
import subprocess
import sys

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

# Hashes of what each world draws and logs in a few days, at its small size and at its own; and of some pictures.
HASHES = """
import hashlib, json
import numpy as np, pandas as pd
from mlsd.worlds import WORLDS, world_class
from mlsd.worlds.checks import small

def sha(array): return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
def of(frame): return sha(pd.util.hash_pandas_object(frame, index=False).to_numpy())

found = {}
for name in WORLDS:
    for size, world, days in (("small", small(world_class(name))(), 4), ("default", world_class(name)(), 4 if name == "videos" else 2)):
        for table, frame in dict(log=world.log(days), users=world.users, items=world.items).items():
            found[f"{name}, {size}: {table}"] = of(frame)
        found[f"{name}, {size}: served by the oracle"] = of(world.deploy(world.oracle, 1, start=days))
        if name == "products":
            found[f"{name}, {size}: photos"] = sha(world.query_photos(np.arange(60)))
x = np.linspace(-4, 4, 1000)
print(json.dumps(dict(worlds=found, bits=[sha(np.exp(x.astype(np.float32))), sha(x.reshape(20, 50) @ x.reshape(50, 20))])))
"""


def hashes(**environment: str) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_processor_decides_nothing():
    plain = hashes()
    old_and_threaded = hashes(
        NPY_DISABLE_CPU_FEATURES=" ".join(feature for feature in __cpu_dispatch__ if __cpu_features__[feature]),
        OPENBLAS_CORETYPE="Nehalem",
        OPENBLAS_NUM_THREADS="2",
        OMP_NUM_THREADS="2",
        OPENCV_CPU_DISABLE="AVX512-SKX,AVX2,AVX,FMA3,FP16,SSE4.2,SSE4.1",
        OPENCV_IPP="disabled",
        GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX",
    )
    assert plain["bits"] != old_and_threaded["bits"], "expected that the extensions show in the last bits; else this test shows nothing"
    differ = [name for name, digest in plain["worlds"].items() if old_and_threaded["worlds"][name] != digest]
    assert not differ, f"on another processor these would differ: {differ}"
