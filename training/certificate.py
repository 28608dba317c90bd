"""The check that a run makes on its own data before its first step: that it computes what it should.

The decoder is transformers': a few tokens have the logits that its own forward pass gives. Packed is alone: the samples
of some of its sequences have, packed as they are, the losses that each has by itself, in the mean over target tokens.
Devices agree: all compute the same losses from the same weights, and their shares add up to one device's sum. A step
can be repeated: the same batch, read again, gives the same loss to the bit, which resuming to the bit rests on.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.training.attention import Attention
from mmcorpus.training.batch import PackedBatch, collate, expand
from mmcorpus.training.data import PackLoader
from mmcorpus.training.decoder import check_layers
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.parallel import World, evaluating

TOLERANCE: Final = {"fp32": 1e-3, "bf16": 0.05}
"""Nats by which target tokens' losses may differ between packed and alone, in the mean of the absolute differences, by
the precision that is computed in. No single sample is judged: an answer of one token may be far off in bf16. Measured
on the default model, untrained and trained: 0.0002 in bf16, and 0.12 to 0.15 with a mask that lets samples see each
other, in both precisions."""
_PROBE: Final = 8
"""Tokens, in the mean, of the two texts on which a decoder is compared with transformers' forward pass."""
_WINDOW: Final = 3
"""The sliding window that it has meanwhile, if it has one."""
_SAME: Final = 1e-3
"""The share of the largest logit by which the two may differ."""


class CertificateError(RuntimeError):
    """A run that does not compute what it should; nothing has been trained."""


@torch.no_grad()
def check_decoder(model: VisionLanguageModel, length: int, attention: Attention = "sdpa") -> None:
    """Raise ValueError unless the language model's logits of packed texts are those that transformers' own forward pass
    has for each.

    A few tokens through both, before the model is moved or sharded. `length`: the longest sequence of the run; if the
    decoder's sliding window is shorter, it is compared as well, with a window that is shorter than the few tokens.
    `attention`: the run's kernel, of which varlen is asked itself, and sdpa's mask in the place of flex's, which has
    the same rule.
    """
    config = model.decoder.config
    check_layers(config)
    training, window, before = model.training, getattr(config, "sliding_window", None), model.attention
    isolated = model.isolated
    ids = np.arange(2 * _PROBE) + min(100, config.vocab_size - 2 * _PROBE)
    texts = np.split(ids, [_PROBE + 2])  # of unlike lengths
    lengths = [len(text) for text in texts]
    packed = expand(ids, lengths, lengths, [(), ()], np.zeros((0, 3, 1, 1), np.uint8), [], 1)
    model.eval()
    try:
        if window is not None and window < length + 8:  # batches are padded to a multiple
            config.sliding_window = _WINDOW
        model.set_attention(isolated=True, implementation="sdpa")
        theirs = torch.cat([model.language(torch.from_numpy(text)[None], use_cache=False).logits[0] for text in texts])
        model.set_attention(isolated=True, implementation="varlen" if attention == "varlen" else "sdpa")
        batch = collate([packed], multiple=1)
        words_BLD = model.language.get_input_embeddings()(batch.input_ids_BL)
        ours = model.head.logits(model.decoded(words_BLD, batch))[0]
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # whatever its code makes of our masks
        raise ValueError(
            f"the language model ({config.model_type}) cannot be run on packed samples with compute.attention "
            f"{attention} ({error}); take another decoder" + ("" if attention == "sdpa" else ", or sdpa")
        ) from error
    finally:
        if window is not None:
            config.sliding_window = window
        model.set_attention(isolated=isolated, implementation=before)
        model.train(training)
    if not torch.isfinite(theirs).all():
        return  # broken weights are the loop's affair, which names whose loss is not finite
    most = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
    if not most <= _SAME:
        raise ValueError(
            f"the language model ({config.model_type}) does more than is known here: its logits differ by {most:.2g} "
            "of the largest from what transformers computes. It cannot be trained so; take another decoder"
        )


def alone(packed: PackedSequence) -> list[PackedSequence]:
    """Each sample of a packed sequence as a sequence of its own."""
    tokens = np.cumsum([0, *packed.token_counts])
    images = np.cumsum([0, *packed.image_counts])
    found = []
    for number, (start, end) in enumerate(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True)):
        one = slice(number, number + 1)
        shown = slice(int(images[number]), int(images[number + 1]))
        branches = tuple(tuple(first - start for first in begins) for begins in packed.branches[one])
        found.append(
            dataclasses.replace(
                packed,
                input_ids=packed.input_ids[start:end],
                uids=packed.uids[one],
                sources=packed.sources[one],
                lengths=packed.lengths[one],
                token_counts=packed.token_counts[one],
                image_counts=packed.image_counts[one],
                loss_spans=tuple(
                    tuple((first - start, last - start) for first, last in spans) for spans in packed.loss_spans[one]
                ),
                images=packed.images[shown],
                sizes=packed.sizes[shown],
                branches=branches if any(branches) else (),
                weights=packed.weights[one],
                tags=packed.tags[one],
            )
        )
    return found


def certify(
    model: VisionLanguageModel,
    loader: PackLoader,
    sequences: Sequence[int],
    world: World,
    *,
    precision: str,
    micro: int,
) -> dict[str, Any]:
    """Check these sequences on every device, in the run's precision, and return what was found.

    Raises CertificateError, saying where, if losses differ. Without isolation samples in a pack see each other, so that
    packed is not alone and is not asked.
    """
    started = time.monotonic()
    packed, share, differing, targets, worst = 0.0, 0.0, 0.0, 0, (0.0, "")
    samples, repeated = 0, True
    with evaluating(model):
        for first in range(0, len(sequences), micro):
            group = list(sequences[first : first + micro])
            batch = loader.batch(group)
            losses_M = _losses(model, batch, world, precision)
            if not torch.isfinite(losses_M).all():
                break  # the loop's own affair: it names whose they are
            if first == 0:
                repeated = torch.equal(losses_M, _losses(model, loader.batch(group), world, precision))
            packed += float(losses_M.double().sum())
            if (first // micro) % world.size == world.rank:
                share += float(losses_M.double().sum())
            samples += len(batch.sources_S)
            if model.isolated and not batch.corrupt:
                pieces = [loader.piece(single) for index in group for single in alone(loader.reader[index])]
                parts = [
                    _losses(model, collate(pieces[start : start + micro], length=loader.length), world, precision)
                    for start in range(0, len(pieces), micro)
                ]
                differences_M = losses_M.double() - torch.cat(parts).double()  # the targets have the same order
                differing += float(differences_M.abs().sum())
                targets += len(differences_M)
                means = _means(differences_M, batch).abs().tolist()
                worst = max([worst, *zip(means, batch.uids, strict=True)])
    summed, shares = world.sums([packed, share])
    apart = max(abs(summed / world.size - packed), abs(shares - packed)) / max(1.0, abs(packed))
    difference = differing / max(1, targets)
    if not difference <= TOLERANCE[precision]:
        raise CertificateError(
            f"the losses of target tokens differ by {difference:.2g} nats in the mean between packed and alone, more "
            f"than {TOLERANCE[precision]} (the worst sample's, {worst[1]}, by {worst[0]:.2g}): the attention mask or "
            "the positions are wrong; try compute.attention sdpa and compute.compile false"
        )
    if not apart <= 1e-4:
        raise CertificateError(f"the devices' losses differ by {apart:.2g} of their sum: their weights differ")
    if not repeated and world.device.type == "cpu":
        raise CertificateError("the same batch gave another loss the second time: the run could not be resumed exactly")
    return {
        "sequences": len(sequences),
        "samples": samples,
        "packed_against_alone": difference if model.isolated else None,
        "packed_against_alone_worst": worst[0] if model.isolated else None,
        "devices": world.size,
        "devices_apart": apart,
        "repeated_to_the_bit": repeated,
        "seconds": round(time.monotonic() - started, 3),
    }


def _losses(model: VisionLanguageModel, batch: PackedBatch, world: World, precision: str) -> torch.Tensor:
    with world.autocast(precision):
        losses_M: torch.Tensor = model(batch.to(world.device))
    return losses_M.cpu()


def _means(losses_M: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """Each sample's mean loss; 0 for one without targets."""
    sums = torch.zeros(len(batch.sources_S), dtype=torch.float64).index_add_(0, batch.samples_M, losses_M.double())
    counts = torch.bincount(batch.samples_M, minlength=len(sums))
    return sums / counts.clamp(min=1)


def write_certificate(out: str, report: dict[str, Any]) -> None:
    """Keep it as `certificate.json` and say it on the terminal."""
    lasting = {name: value for name, value in report.items() if name != "seconds"}  # equal runs, equal bytes
    storage.write_json(storage.join(out, "certificate.json"), lasting)
    said = ["a step repeats to the bit" if report["repeated_to_the_bit"] else "a step does not repeat to the bit here"]
    if report["devices"] > 1:
        said.insert(0, f"{report['devices']} devices agree to {report['devices_apart']:.1e}")
    if report["packed_against_alone"] is not None:
        mean, most = report["packed_against_alone"], report["packed_against_alone_worst"]
        said.insert(0, f"packed = alone to {mean:.1e} nats a token, {most:.1e} in the worst sample")
    text = f"certified on {report['samples']} samples in {report['seconds']:.1f} s: {', '.join(said)}"
    print(text, file=sys.stderr, flush=True)
