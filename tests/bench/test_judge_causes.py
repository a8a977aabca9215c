"""Removals, known causes, hubs, coverage, humble rivals and embeddings give what is known of made-up cases."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.faithfulness.judge import coverage, embedding, hubs, humble, known_cause, removals
from bench.faithfulness.judge.truth import Family, Query
from tests.attribution.toy import WIDTH, random_segments, toy
from worker.attribution.evaluate import Bootstrap, lds
from worker.diffusion.spectral import SpectralAutoencoder

FEW = Bootstrap(resamples=200)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(effects: dict[str, float], queries: int = 6, seeds: int = 3) -> tuple[removals.Removals, list]:
    """Loss 2 everywhere, which rises by so many per cent for the query whose group is left out, and by 1 for all."""
    full = {seed: torch.full((queries,), 2.0) + seed / 10 for seed in range(seeds)}
    groups, without = [], {}
    for method, per_cent in effects.items():
        for query in range(queries):
            mask = len(groups)
            groups.append(removals.Group(mask, query, method, (1, 2)))
            base = torch.stack(list(full.values())).mean()
            rise = 0.01 * base + 0.01 * per_cent * base * (torch.arange(queries) == query)
            without[mask] = {seed: losses + rise for seed, losses in full.items()}
    return removals.paired(without, full), groups


def test_a_rise_is_told_in_per_cent_and_what_all_queries_share_is_taken_off() -> None:
    losses, groups = measured({"ours": 5.0, "artist_matched": 0.5})
    found = removals.effects(losses, groups, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(found["ours"][0], torch.full((3, 6), 6.0))
    torch.testing.assert_close(found["ours"][1], torch.full((3, 6), 5.0))
    gap = removals.mean_rise((found["ours"] - found["artist_matched"])[0], FEW)
    assert (gap.value, gap.low, gap.high) == pytest.approx((4.5, 4.5, 4.5), abs=1e-4)


def test_a_method_without_a_group_for_a_query_narrows_the_comparison_to_those_that_all_have() -> None:
    losses, groups = measured({"ours": 5.0, "other": 2.0})
    fewer = [g for g in groups if (g.method, g.query) not in {("other", 0), ("other", 3)}]
    everywhere = removals.Group(0, None, "any", (1, 2))
    found = removals.effects(losses, [*fewer, everywhere], torch.zeros(6, dtype=torch.long))
    assert {name: tuple(x.shape) for name, x in found.items()} == dict.fromkeys(("ours", "other", "any"), (2, 3, 4))
    assert removals.by_size([*groups, replace(groups[0], songs=(4,))]).keys() == {1, 2}


def test_noisy_seeds_widen_the_interval_of_a_rise() -> None:
    noise = torch.randn(3, 1, generator=generator()) + 0.01 * torch.randn(3, 30, generator=generator(1))
    wide, narrow = (removals.mean_rise(x, FEW) for x in (noise, noise - noise.mean(1, keepdim=True)))
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_truth_files_of_removals_meet_full_models_of_their_seeds(tmp_path: Path) -> None:
    kept = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 0, 1]], dtype=torch.uint8)
    losses = torch.arange(5.0)[:, None, None].expand(5, 2, 8).contiguous()
    columns = {"mask": torch.tensor([0, 0, 0, 0, 1]), "seed": torch.tensor([1, 2, 1, 2, 1])}
    save_file({"kept": kept, "losses": losses, **columns}, tmp_path / "truth.safetensors")
    found = removals.Removals.load(tmp_path / "truth.safetensors")
    assert set(found.without) == {0, 1}
    assert found.without[1].isfinite().tolist() == [[True, True], [False, False]]
    torch.testing.assert_close(found.rises(0), torch.full((2, 2), 400.0, dtype=torch.float64))
    save_file(
        {"kept": kept[2:], "losses": losses[2:], **{k: v[2:] for k, v in columns.items()}}, tmp_path / "x.safetensors"
    )
    with pytest.raises(ValueError, match="full models have"):
        removals.Removals.load(tmp_path / "x.safetensors")


def test_only_pairs_that_every_method_has_count_where_a_group_lacks_a_seed() -> None:
    losses, groups = measured({"ours": 2.0, "random": 1.0})
    lacking = next(g.mask for g in groups if g.method == "random" and g.query == 0)
    losses.without[lacking][1:] = torch.nan
    found = removals.effects(losses, groups, torch.zeros(6, dtype=torch.long))
    assert found["ours"][0].isfinite().sum() == found["random"][0].isfinite().sum() == 6 * 3 - 2
    gap = removals.mean_rise((found["ours"] - found["random"])[0], FEW)
    assert gap.low <= gap.value <= gap.high
    assert gap.value > 0


def dosed() -> tuple[Tensor, Tensor]:
    """Scores that rise by one deviation a doubling, 40 ordinary songs and 6 of every other dose."""
    dose = torch.tensor([1] * 40 + [d for d in (0, 2, 4, 8, 16) for _ in range(6)]).expand(25, -1)
    return (2 * dose + 1).log2() * 3 + torch.randn(dose.shape, generator=generator()), dose


def test_scores_that_follow_the_dose_are_seen_to_and_others_are_not() -> None:
    scores, dose = dosed()
    means = [interval.value for interval in known_cause.by_dose(scores, dose, FEW).values()]
    assert means == sorted(means)
    assert known_cause.by_dose(scores, dose, FEW)[1].value == pytest.approx(0, abs=1e-6)
    assert known_cause.rises(scores, dose, FEW).low > 0.5
    assert known_cause.mean_auc(known_cause.present_against_planted(scores, dose), FEW).low > 0.95
    noise = torch.randn(scores.shape, generator=generator(3))
    assert known_cause.mean_auc(known_cause.present_against_planted(noise, dose), FEW).value == pytest.approx(
        0.5, abs=0.1
    )
    assert abs(known_cause.rises(noise, dose, FEW).value) < 0.1


def test_a_threshold_from_tuning_songs_calls_few_planted_and_most_copied() -> None:
    scores, dose = dosed()
    tuning = (dose == 0) & (torch.arange(dose.shape[1]) % 2 == 0)
    limit = known_cause.threshold(scores, tuning)
    calls = known_cause.called(scores > limit, dose)
    assert calls[0].value < 0.12
    assert calls[8].value > 0.9
    assert calls[8].low < calls[8].value
    assert calls[0].low < calls[0].value < calls[0].high
    assert sum(share.n for share in calls.values()) == dose.numel()


def test_the_area_under_the_roc_is_the_chance_of_the_right_order() -> None:
    assert known_cause.auc(torch.tensor([2.0, 3]), torch.tensor([0.0, 1])) == 1
    assert known_cause.auc(torch.tensor([1.0]), torch.tensor([0.0, 1, 2])) == 0.5
    x, y = torch.randn(30, generator=generator()), torch.randn(50, generator=generator(1))
    assert known_cause.auc(x, y) == pytest.approx(float((x[:, None] > y).double().mean()))


def test_wilson_bounds_of_none_and_all() -> None:
    none, every = known_cause.Share.of(torch.zeros(50).bool()), known_cause.Share.of(torch.ones(50).bool())
    assert (none.low, every.high) == pytest.approx((0, 1))
    assert none.high == pytest.approx(0.0713, abs=1e-4)
    assert every.low == pytest.approx(1 - none.high)
    with pytest.raises(ValueError, match="nothing"):
        known_cause.Share.of(torch.zeros(0).bool())


def test_retrieval_ranks_the_own_song_and_ties_share_their_rank() -> None:
    scores = torch.eye(10)
    found = known_cause.retrieval(scores, torch.arange(10), FEW)
    assert (found.first.count, found.mean_rank.value, found.auc.value) == (10, 1, 1)
    tied = known_cause.retrieval(torch.zeros(4, 9), torch.arange(4), FEW)
    assert (tied.first.count, tied.mean_rank.value, tied.auc.value) == (0, 5, 0.5)


def test_hubs_are_seen() -> None:
    same = torch.randn(60, generator=generator()).expand(12, 60)
    apart = torch.randn(12, 60, generator=generator(1))
    assert vars(hubs.hubs(same)) == pytest.approx({"overlap": 1, "shared": 1, "rank": 1})
    found = hubs.hubs(apart)
    assert found.overlap < 0.2
    assert abs(found.shared) < 0.2
    assert found.rank > 8


def effects(scale: float, width: float) -> coverage.Effects:
    """Retrained changes: so many times the predicted ones, off by a unit normal."""
    predicted = 5 * torch.randn(600, generator=generator())
    retrained = scale * predicted + torch.randn(600, generator=generator(1))
    return coverage.Effects(predicted, predicted - width, predicted + width, retrained, torch.arange(600) // 6)


def test_honest_intervals_cover_as_stated_and_the_slope_tells_the_scale() -> None:
    honest = coverage.response(effects(1.0, 1.645), FEW)
    assert honest.covered.low < 0.9 < honest.covered.high
    assert honest.slope.low < 1 < honest.slope.high
    assert coverage.response(effects(1.0, 0.5), FEW).covered.high < 0.5
    half = coverage.response(effects(0.5, 1.645), FEW)
    assert half.slope.value == pytest.approx(0.5, abs=0.05)
    assert half.spearman > 0.9


def song(key: str, artist: str, caption: str) -> humble.Song:
    return humble.Song(key, artist, f"source of {artist}", caption, 60.0 + len(key))


TRAINED = (
    *(song(f"a{n}", "ann", "slow dark quiet music") for n in range(3)),
    *(song(f"b{n}", "bob", "fast bright loud music") for n in range(3)),
    *(song(f"c{n}", "cat", "medium dark music") for n in range(2)),
)
KNOWN = humble.Catalogue(TRAINED, (song("h", "bob", "slow loud music"), song("i", "new", "odd words")))
ASKED = (
    Query("g", "generated", "caption", "test", "slow dark quiet"),
    Query("h-0", "held_out", "caption", "test", "slow loud music", song="h"),
    Query("h-0-null", "held_out", "null", "test", song="h"),
    Query("i-0", "held_out", "caption", "test", "odd words", song="i"),
)


def test_a_generated_track_counts_the_artists_of_its_nearest_captions_and_a_recording_its_own() -> None:
    found = humble.same(ASKED, KNOWN, "artist")
    assert found[0].tolist() == [3, 3, 3, 0, 0, 0, 2, 2]
    assert found[1].tolist() == found[2].tolist() == [0, 0, 0, 5, 5, 5, 0, 0]
    assert found[3].tolist() == [0] * 8
    torch.testing.assert_close(humble.same(ASKED, KNOWN, "source"), found)


def test_votes_are_five_whatever_the_ties() -> None:
    similarity = torch.randint(0, 4, (50, 30), generator=generator()).double()
    elected = humble.votes(similarity)
    torch.testing.assert_close(elected.sum(1), torch.full((50,), 5.0, dtype=torch.float64))
    assert bool((elected <= 1).all())
    assert bool((elected[similarity < similarity.topk(5, dim=1).values[:, -1:]] == 0).all())


def test_shared_words_are_counted_and_a_word_of_all_songs_is_worth_nothing_when_rare_ones_count() -> None:
    assert humble.captions_alike(ASKED, KNOWN)[2].tolist() == [2, 2, 2, 2, 2, 2, 1, 1]
    rare = humble.captions_alike(ASKED, KNOWN, rare=True)
    torch.testing.assert_close(rare[2, -1], torch.tensor(0.0, dtype=torch.float64))
    assert float(rare[0, 0]) > float(rare[0, 6]) > float(rare[0, 3])


def test_every_humble_rival_scores_every_query_and_song() -> None:
    found = humble.rivals(ASKED, KNOWN)
    assert {tuple(x.shape) for x in found.values()} == {(4, 8)}
    assert all(bool(x.isfinite().all()) for x in found.values())
    assert not torch.equal(found["random@seed0"], found["random@seed1"])


def test_song_values_learn_what_all_queries_share_from_tuning_alone() -> None:
    value = torch.randn(30, generator=generator(), dtype=torch.float64)
    kept = torch.rand(120, 30, generator=generator(1)) < 0.5
    losses = 3 - kept.double() @ (value + 0.3 * torch.randn(10, 30, generator=generator(2), dtype=torch.float64)).mT
    family = Family(kept, torch.arange(120), losses[None])
    learnt = humble.song_values(family.subsets(torch.arange(64)))
    test = family.subsets(torch.arange(64, 120))
    assert float(lds(learnt.expand(10, -1), test.truth).mean()) > 0.8
    rows = tuple(Query(str(n), "generated", "caption", "tune" if n < 5 else "test", "x") for n in range(10))
    own = torch.randn(10, 30, generator=generator(4))
    found = humble.agnostic(rows, family.subsets(torch.arange(64)), {"ours": own})
    torch.testing.assert_close(found["song_values"][9], found["song_values"][0])
    torch.testing.assert_close(
        found["mean_of_others(ours)"][3],
        torch.nn.functional.normalize(own.double(), dim=1)[torch.arange(10) != 3].mean(0),
    )


def test_noise_alone_is_damped_until_no_song_is_worth_much() -> None:
    kept = (torch.rand(64, 200, generator=generator()) < 0.5).double()
    centred = kept - kept.mean(0)
    target = torch.randn(64, generator=generator(1), dtype=torch.float64)
    alpha = humble.ridge(centred @ centred.mT, target)
    assert float((centred @ (centred.mT @ alpha)).norm()) < 0.3 * float(target.norm())


def test_a_segment_is_most_like_itself_in_every_space_even_shifted() -> None:
    segments = torch.randn(9, 6, 20, generator=generator())
    shifted = torch.nn.functional.pad(segments, (3, 0))[..., :20]
    assert embedding.best_shift(shifted, segments, 5).argmax(1).tolist() == list(range(9))
    torch.testing.assert_close(embedding.best_shift(segments, segments, 5).diagonal(), torch.ones(9))
    still = torch.nn.functional.normalize(segments.flatten(1), dim=1)
    torch.testing.assert_close(embedding.best_shift(segments, segments, 0), still @ still.mT)
    features = embedding.statistics(segments)
    assert embedding.cosine(features, features).argmax(1).tolist() == list(range(9))


def test_the_bands_of_latents_are_what_the_autoencoder_decodes() -> None:
    vae = SpectralAutoencoder(latent_channels=16, n_mels=8, stack=2)
    waves = torch.randn(2, 1, vae.hop_length * 12, generator=generator())
    features = vae.features(waves)
    vae.fit(features.transpose(0, 1).flatten(1))
    bands = embedding.mel_bands(vae.encode(waves).latent_dist.mode(), vae)
    torch.testing.assert_close(bands, vae._unstacked(features), atol=1e-3, rtol=1e-3)


def test_hidden_states_are_of_the_segment_alone_and_leave_no_hook() -> None:
    model, segments = toy(), random_segments(5)
    found = embedding.hidden_states(model, segments, "down")
    assert found.shape == (5, WIDTH)
    torch.testing.assert_close(embedding.hidden_states(model, segments[torch.tensor([3])], "down")[0], found[3])
    assert not model.module.down._forward_hooks


def test_a_song_has_the_sum_or_the_best_of_its_segments() -> None:
    similarity = torch.tensor([[1.0, 2, 3, 4]])
    song_of = torch.tensor([0, 0, 2, 2])
    assert embedding.by_song(similarity, song_of, 3).tolist() == [[3, 0, 7]]
    assert embedding.by_song(similarity, song_of, 3, "max").tolist() == [[2, 0, 4]]
