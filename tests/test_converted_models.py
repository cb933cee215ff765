"""The transformer that `train` has trained computes the same when it is converted, bit for bit."""

import contextlib

import jax
import numpy as np
import pytest
from training_runs import SIZES, TEXT

from shared.cli import main
from shared.interface import IMPLEMENTATIONS
from shared.training.checkpoints import Checkpoints
from shared.training.config import Config
from shared.training.run import first_state
from shared.training.text import batch, tokens_of
from shared.training.trainer import load_trainer

# The runs that all of these are held against are made once.
pytestmark = pytest.mark.xdist_group("runs")
CONFIG = Config(**SIZES)
TOKENS = tokens_of(TEXT, CONFIG.length)
STEP = SIZES["steps"]


def restored(impl, directory):
    """The state of a run in a directory."""
    trainer = load_trainer(impl)
    state = first_state(trainer, CONFIG, TOKENS)
    checkpoints = Checkpoints(str(directory))
    with contextlib.closing(checkpoints):
        saved = checkpoints.read(STEP, trainer.to_checkpoint(state))
    return trainer, trainer.from_checkpoint(state, saved)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.quick("linen")
def test_a_trained_transformer_computes_the_same_when_it_is_converted(impl, whole_run, tmp_path):
    (other,) = set(IMPLEMENTATIONS) - {impl}
    words = [f"--source_path={whole_run(impl)[0]}", f"--target_path={tmp_path / 'run'}"]
    assert main(["convert", *words, f"--step={STEP}"]) == 0
    windows = batch(TOKENS.validation, CONFIG.seed, 0, CONFIG.batch_size, CONFIG.length)
    losses, steps = [], []
    for name, directory in ((impl, whole_run(impl)[0]), (other, tmp_path / "run")):
        trainer, state = restored(name, directory)
        losses.append(np.asarray(trainer.evaluate(state, windows)).tobytes())
        state, loss = trainer.train_step(state, windows)
        params = jax.tree.leaves(jax.tree.map(np.asarray, trainer.params_of(state)))
        steps.append([np.asarray(loss).tobytes(), *(leaf.tobytes() for leaf in params)])
    assert losses[0] == losses[1]
    assert steps[0] == steps[1]
    # The two programs are the same for all params, not for these alone.
    assert main(["verify", "--case=transformer", "--checks=structure,programs,forward"]) == 0
