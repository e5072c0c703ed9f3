"""Arrays of either library: which they are, what they hold, whether all of it is finite."""

import subprocess
import sys

import numpy as np
import pytest

from unroller.arrays import (
    all_finite,
    dtype_name,
    is_array,
    is_floating,
    is_torch,
    nbytes,
    to_numpy,
)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def test_both_libraries_are_arrays_and_name_their_dtypes_alike(torch):
    assert is_array(np.ones(2)) and is_array(torch.ones(2)) and not is_array([1.0])
    assert is_torch(torch.ones(2)) and not is_torch(np.ones(2))
    assert dtype_name(np.ones(2, np.float32)) == dtype_name(torch.ones(2)) == "float32"
    assert dtype_name(torch.ones(2, dtype=torch.bfloat16)) == "bfloat16"
    assert nbytes(np.ones(3)) == nbytes(torch.ones(3, dtype=torch.float64)) == 24


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_numpy_floats_are_floating_whatever_their_byte_order(dtype):
    assert is_floating(np.ones(2, dtype))
    assert not is_floating(np.ones(2, np.int32)) and not is_floating(np.ones(2, bool))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn"])
def test_torch_floats_are_floating_and_come_to_the_host_as_numbers_numpy_knows(torch, name):
    tensor = torch.tensor([1.0, 0.5]).to(getattr(torch, name)).requires_grad_(name == "float32")
    assert is_floating(tensor)
    np.testing.assert_array_equal(to_numpy(tensor).astype(float), [1.0, 0.5])


def test_a_batch_is_checked_at_once_and_each_array_gets_its_own_verdict(torch):
    arrays = [
        np.ones((2, 2)),
        np.array([1.0, np.nan]),
        np.array([np.inf]),
        np.array([np.inf, -np.inf]),
        np.array([1, 2, 3]),
        np.zeros((0, 4)),
        torch.tensor([1.0, float("nan")]),
        torch.tensor([1.0], dtype=torch.bfloat16),
        torch.tensor([float("inf")], dtype=torch.bfloat16),
        torch.tensor([3]),
        torch.ones(3).to(torch.float8_e4m3fn),
        np.array([np.nan], ">f4"),
    ]
    assert all_finite(arrays) == [
        *[True, False, False, False, True, True],
        *[False, True, False, True, True, False],
    ]


def test_large_finite_numbers_whose_sum_overflows_are_still_finite():
    assert all_finite([np.full(4, 1e308)]) == [True]
    assert all_finite([np.full(4, 60_000, np.float16)]) == [True]
    assert all_finite([np.full(4, 3e38, np.float32)]) == [True]


def test_the_engine_is_imported_without_torch():
    code = "import sys, unroller; assert not {'torch', 'cv2', 'networkx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
