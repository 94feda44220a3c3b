"""Every device does its share of the work and no more, and activations stay where they are:
counted from the compiled programs of training, validation, scoring and search."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_work import CompiledWork

from seqjax import losses, models
from seqjax.config import GenerationConfig, MeshConfig, OptimizerConfig, ScheduleConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.scoring import Scorer
from seqjax.losses.base import Forward
from seqjax.models.protocol import token_source
from seqjax.tasks.translation import TranslationConfig, TranslationTask
from seqjax.training import objective, sharding
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import loss_and_gradient, make_eval_step, make_train_step

V, B, L, D = 4096, 256, 32, 128
BUDGET = B * L * V // 16
"""The logits of a step are made in sixteen blocks or chunks."""
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Machine code of what is compiled here need not be good, only its plan is read."""
MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "mixed": (2, 2, 2)}
SHARE = {"data": 1.05, "fsdp": 1.05, "mixed": 1.1}
LOSSES = {
    "cross_entropy": {},
    "label_smoothed_cross_entropy": {},
    "adaptive_loss": {},
    "label_smoothed_cross_entropy_with_alignment": {},
    "masked_lm": {},
}


class Masked:
    """The forward pass of masked sentences."""

    def forward(self, model, params, batch, rng, update, extra=None):
        encoded = model.encode(params, token_source(batch["source"], pad=model.pad), rng=rng)
        return Forward(features=model.features(params, encoded), encoded=encoded,
                       target=batch["target"], pad=model.pad)


def mesh_of(sizes):
    data, fsdp, tensor = sizes
    config = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
    return sharding.make_mesh(config, jax.devices()[: data * fsdp * tensor])


def model_of(loss):
    size = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
            dict(embed_dim=D, ffn_embed_dim=2 * D, layers=1, attention_heads=2).items()}
    if loss == "masked_lm":
        size = {k: v for k, v in size.items() if k.startswith("encoder")}
        config = models.CONFIGS["roberta"](max_positions=L, **size)
        return models.build(config, source_vocab_size=V, target_vocab_size=V,
                            compute_dtype=jnp.float32)
    extra = {"share_all_embeddings": True}
    if loss == "adaptive_loss":
        extra = {"adaptive_softmax_cutoff": (256, 1024)}
    config = models.CONFIGS["transformer"](dropout=0.1, **size, **extra)
    return models.build(config, source_vocab_size=V, target_vocab_size=V,
                        compute_dtype=jnp.float32)


def loss_of(name, model, budget=BUDGET):
    section = losses.CONFIGS[name](logits_budget=budget)
    if name == "masked_lm":
        return objective.loss_function(Masked(), model, section)
    task = object.__new__(TranslationTask)  # its loss needs no data
    object.__setattr__(task, "config", TranslationConfig())
    return objective.loss_function(task, model, section)


def placed(tree, places):
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, places)


def batch_of(mesh, loss, groups=None):
    lead = () if groups is None else (groups,)
    place = sharding.batch_sharding(mesh, rows_axis=len(lead))
    names = ["source", "target", "source_segments", "target_segments"]
    if loss == "masked_lm":
        names = ["source", "target"]
    if loss.endswith("alignment"):
        names = ["source", "target", "aligned_source", "aligned_target"]
    return {name: jax.ShapeDtypeStruct((*lead, B, L), jnp.int32, sharding=place)
            for name in names}


@functools.cache
def training(loss, sizes, groups=1):
    model, mesh = model_of(loss), mesh_of(sizes)
    optimizer = make_optimizer(OptimizerConfig())
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(1.0,))
    shapes = jax.eval_shape(lambda: new_state(model.init(jax.random.key(0)), optimizer))
    places = sharding.shardings(shapes, mesh)
    step = make_train_step(loss_of(loss, model), optimizer, schedule, seed=1)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))
    return jax.jit(step, donate_argnums=0, out_shardings=(places, None)).lower(
        placed(shapes, places), batch_of(mesh, loss, groups), number).compile(QUICK)


@functools.cache
def validation(loss, sizes):
    model, mesh = model_of(loss), mesh_of(sizes)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    params = placed(shapes, sharding.shardings(shapes, mesh))
    step = make_eval_step(loss_of(loss, model))
    return jax.jit(step).lower(params, {}, batch_of(mesh, loss), 0).compile(QUICK)


def parameter_shapes(loss):
    shapes = jax.eval_shape(lambda: model_of(loss).init(jax.random.key(0)))
    whole = {tuple(sorted(n for n in x.shape if n > 1)) for x in jax.tree.leaves(shapes)}
    # And blocks of the output layer, of more words where fewer tokens are projected.
    return whole | {(D, V // (16 // n)) for n in ((1, 2, 4, 8) if loss == "masked_lm" else (1,))}


def check(program, one, mesh, loss):
    """At most its share of the products, and nothing but parameters is gathered."""
    found = CompiledWork(program.as_text() or "")
    whole = CompiledWork(one.as_text() or "").multiplications
    assert found.multiplications * 8 <= SHARE[mesh] * whole
    if mesh != "mixed":
        moved = [m for m in found.moves if m.floating
                 and tuple(sorted(m.shape)) not in parameter_shapes(loss)]
        assert not moved
        assert mesh == "fsdp" or not found.moves


def test_the_counter_multiplies_bodies_by_their_trips():
    def chunks(x, w):
        return jax.lax.map(lambda part: part @ w, x)

    x, w = jnp.ones((5, 7, 3)), jnp.ones((3, 11))
    program = jax.jit(chunks).lower(x, w).compile()
    assert CompiledWork(program.as_text() or "").multiplications == 5 * 7 * 3 * 11


def test_the_counter_sees_what_is_gathered():
    mesh = mesh_of((8, 1, 1))
    x = jax.ShapeDtypeStruct((64, 6), jnp.float32, sharding=sharding.batch_sharding(mesh))
    program = jax.jit(lambda x: x * 2, out_shardings=sharding.replicated(mesh)).lower(x).compile()
    assert [(m.kind, m.shape) for m in CompiledWork(program.as_text() or "").moves] == [
        ("all-gather", (64, 6))]


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("loss", LOSSES)
def test_training_does_its_share(loss, mesh):
    check(training(loss, MESHES[mesh]), training(loss, (1, 1, 1)), mesh, loss)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("loss", LOSSES)
def test_training_needs_its_share_of_memory(loss, mesh):
    """Of what grows with tokens. The output layer is whole while it is used, and so is its
    gradient until it is added up over devices; along `fsdp` all parameters are gathered, and so it
    is there once more as the embedding."""
    one, here = (training(loss, sizes).memory_analysis().temp_size_in_bytes
                 for sizes in ((1, 1, 1), MESHES[mesh]))
    layers = (3 if mesh == "fsdp" else 2) * V * D * 4
    assert here - layers <= 1.3 * (one - layers) / 8


@pytest.mark.parametrize("mesh", ["data", "fsdp"])
def test_micro_batches_do_their_share(mesh):
    loss = "label_smoothed_cross_entropy"
    check(training(loss, MESHES[mesh], 2), training(loss, (1, 1, 1), 2), mesh, loss)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("loss", ["label_smoothed_cross_entropy", "adaptive_loss"])
def test_validation_does_its_share(loss, mesh):
    check(validation(loss, MESHES[mesh]), validation(loss, (1, 1, 1)), mesh, loss)


def test_scoring_does_its_share():
    loss = "label_smoothed_cross_entropy"
    model = model_of(loss)
    scorer = Scorer(model)

    def program(sizes):
        mesh = mesh_of(sizes)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
        whole = jax.tree.map(lambda _: sharding.replicated(mesh), shapes)
        ids = jax.ShapeDtypeStruct(
            (8 * B, L), jnp.int32, sharding=sharding.batch_sharding(mesh))
        start = jax.ShapeDtypeStruct(
            (8 * B,), jnp.int32, sharding=sharding.batch_sharding(mesh))
        return scorer._log_probs.lower((placed(shapes, whole),), ids, ids, start).compile()

    check(program((8, 1, 1)), program((1, 1, 1)), "data", loss)


class Caught(Exception):
    pass


def search_programs(devices, monkeypatch, **options):
    """`begin` and `chunk` of a search over rows on so many devices, and its hypotheses."""
    mesh = mesh_of((devices, 1, 1))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names))
    model = model_of("label_smoothed_cross_entropy")
    params = jax.device_put(model.init(jax.random.key(0, impl="threefry2x32")),
                            sharding.replicated(mesh))
    decoder = Decoder(model, GenerationConfig(beam=4, max_len_b=9, **options), row_multiple=8,
                      sharding=rows)
    weights = decoder.prepare((params,))
    sources = [np.array([*range(5, 5 + n % 7), 2]) for n in range(24)]
    found = decoder.decode(weights, sources)

    def start(self, job, batch):
        raise Caught(job, *self._arrays(job, batch))

    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "_start", start)
        with pytest.raises(Caught) as caught:
            decoder.decode(weights, sources)
    job, source, sentences, sizes = caught.value.args
    search, prepared = job.search, job.prepared
    begin = search.begin.lower(prepared.params, prepared.weights, source, sentences,
                               capacity=sizes[0]).compile()
    caches, state = search.begin(prepared.params, prepared.weights, source, sentences,
                                 capacity=sizes[0])
    chunk = search.chunk.lower(prepared.weights, sentences, caches, state, np.int32(0),
                               tables=job.constraint.tables).compile()
    return (begin, chunk), [[h.tokens.tolist() for h in each] for each in found]


@pytest.mark.parametrize("options", [
    {}, {"diverse_beam_groups": 2}, {"diversity_rate": 0.5},
    {"sampling": True, "nbest": 4, "sampling_topp": 0.9},
], ids=lambda options: "+".join(options) or "beam")
def test_search_does_its_share(monkeypatch, options):
    one, alone = search_programs(1, monkeypatch, **options)
    programs, together = search_programs(8, monkeypatch, **options)
    if "sampling" not in options:  # draws hang on the last bits of sums
        assert together == alone
    for program, whole in zip(programs, one, strict=True):
        found = CompiledWork(program.as_text() or "")
        assert found.multiplications * 8 <= 1.05 * CompiledWork(whole.as_text()).multiplications
        assert not [move for move in found.moves if move.floating]


def test_chunks_on_a_mesh_sum_up_to_the_same():
    """Loss and gradient with every device's own chunks against one device without chunks."""
    loss = "adaptive_loss"
    model = model_of(loss)
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(4, V, (B, L)).astype(np.int32) for name in ("source", "target")}
    params = model.init(jax.random.key(0, impl="threefry2x32"))
    evaluate = jax.jit(make_eval_step(loss_of(loss, model)))
    want = evaluate(params, {}, ids, 0)["loss"]
    mesh = mesh_of((2, 2, 2))
    spread = jax.device_put(params, sharding.shardings(params, mesh))
    found = evaluate(spread, {}, sharding.place(ids, mesh), 0)["loss"]
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_blocks_on_a_mesh_give_the_same_gradient(sizes):
    """Blocks that overlap, of words that lie on several devices, against all words at once."""
    loss = "label_smoothed_cross_entropy"
    model, rows = model_of(loss), 16
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(4, V, (1, rows, L)).astype(np.int32) for name in ("source", "target")}
    params = model.init(jax.random.key(0, impl="threefry2x32"))

    def found(params, ids, budget):
        step = functools.partial(
            loss_and_gradient, loss_of(loss, model, budget), key=jax.random.key(1))
        output, gradient, _ = jax.jit(step)(params, {}, ids)
        return jax.tree.map(np.asarray, (output.metrics, gradient))

    want = found(params, ids, rows * L * V)
    mesh = mesh_of(sizes)
    spread = jax.device_put(params, sharding.shardings(params, mesh))
    here = found(spread, sharding.place(ids, mesh, rows_axis=1), rows * L * V // 13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), here, want)


SAME = {"label_smoothed_cross_entropy_with_ctc": "label_smoothed_cross_entropy"}
"""Losses whose decoder's part is another's function; that of frames is not counted here."""
assert set(LOSSES) | set(SAME) == {name for name, cls in losses.CONFIGS.items() if hasattr(
    cls, "logits_budget")}, "a loss that projects onto a vocabulary, of which nothing is counted"
