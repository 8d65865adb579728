"""`pytest --shuffle 7`: the modules, and the tests in each, in an order drawn from the seed. Order must not matter."""

import random

import pytest


def pytest_addoption(parser):
    parser.addoption("--shuffle", type=int, metavar="SEED", help="an order drawn from SEED")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    seed = config.getoption("--shuffle")
    if seed is not None:
        drawn = random.Random(seed)
        modules = sorted({item.path for item in items})
        place = dict(zip(modules, drawn.sample(range(len(modules)), len(modules)), strict=True))
        items.sort(key=lambda item: (place[item.path], drawn.random()))
