"""Every test sees every case, at sizes that all differ: no axis passes for another."""

import dataclasses
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # results are compared bit for bit

import pytest
from hypothesis import settings

from shared.cases import CASES
from shared.interface import load_implementation

settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return dataclasses.replace(request.param, num_layers=3, features=5, batch_size=4)


@pytest.fixture(scope="session")
def linen():
    return load_implementation("linen")


@pytest.fixture(scope="session")
def nnx():
    return load_implementation("nnx")
