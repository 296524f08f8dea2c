import re

from embpress.reports import headline


def two_sentences(text):
    parts = re.split(r"\.(?:\s+|$)", text)
    assert len(parts) == 3, text
    assert parts[2] == ""
    assert parts[0][0].isupper()
    assert parts[1][0].isupper()
    return parts[0], parts[1]


def seeds(run, method, aucs, **changes):
    return [run(method, seed, auc=auc, **changes) for seed, auc in enumerate(aucs)]


def test_a_usual_comparison(runs):
    first, second = two_sentences(headline(runs))
    assert "tt:rank=16 keeps the most test AUC at 16.4×" in first
    # its 95 % interval excludes zero (the table shows it in bold type), the one corrected for five methods does not
    assert "below full tables, within the spread of 3 paired seeds, corrected for 5 comparisons" in first
    assert "The lead of tt:rank=16 over robe:size=150k" in second
    assert "is within the spread of the seeds (corrected for 6 comparisons)" in second
    assert "fastest with hash (29.0 µs" in second
    assert "mlet:width=64 (" in second  # 1×: no compression, so it may not win
    assert "mlet" not in first
    assert "out of reach for lowrank" in second
    assert "no result came from dhe:hashes=1024" in second


def test_without_full(runs):
    first, _ = two_sentences(headline([run for run in runs if not run.is_full]))
    assert "unknown as no run with full tables" in first
    assert "below full" not in first


def test_one_seed(run_set):
    first, second = two_sentences(headline(run_set(seeds=1)))
    assert "±" not in first
    assert "on the one seed run" in first
    assert "more than chance is unknown" in second


def test_all_failed(lost):
    first, second = two_sentences(headline([lost("full"), lost("tt"), lost("hash", 0, "cannot reach")]))
    assert first == "None of the 3 methods gave a result"
    assert "hash" in second
    assert "full and tt" in second


def test_nothing_distinguishable(run):
    runs = seeds(run, "full", [0.740, 0.744, 0.742])
    runs += seeds(run, "tt", [0.743, 0.741, 0.7425])
    runs += seeds(run, "qr", [0.739, 0.7445, 0.7415])
    runs += seeds(run, "hash", [0.742, 0.740, 0.7425])
    first, second = two_sentences(headline(runs))
    assert "within the spread of 3 paired seeds" in first
    assert "None of the other 2 methods can be told from tt" in second


def test_compressed_beats_full(run):
    runs = seeds(run, "full", [0.740, 0.742, 0.741]) + seeds(run, "tt", [0.745, 0.747, 0.7462])
    first, _ = two_sentences(headline(runs))
    assert "above full tables, beyond the spread" in first


def test_a_clear_winner_is_called_one(run):
    runs = seeds(run, "tt", [0.745, 0.747, 0.7462]) + seeds(run, "hash", [0.730, 0.732, 0.7311])
    _, second = two_sentences(headline(runs))
    assert "lead of tt over hash (0.0150 ± 0.0001) is beyond the spread" in second


def test_share_of_the_reachable_auc(run_set):
    text = headline(run_set(best_auc=0.83))
    first, _ = two_sentences(text)
    share = (0.7437 - 0.5) / (0.83 - 0.5)
    assert f"{100 * share:.0f}" in first
    assert "best reachable AUC (0.8300)" in first


def test_very_different_ratios_have_no_single_winner(run):
    runs = seeds(run, "full", [0.745, 0.746]) + seeds(run, "qr", [0.744, 0.745], ratio=2)
    runs += seeds(run, "robe", [0.738, 0.739], ratio=200) + seeds(run, "poor", [0.70, 0.71], ratio=30)
    first, _ = two_sentences(headline(runs))
    assert "The sizes differ too much for one winner" in first
    assert "at 2.0× qr" in first
    assert "at 200.0× robe" in first
    assert "poor" not in first  # robe is smaller and better


def test_many_sizes_are_cut_to_the_telling_ones(run):
    runs = [run("full", s, auc=0.75) for s in (0, 1)]
    for k in range(1, 9):
        runs += [run(f"m{k}", s, auc=0.75 - 0.002 * k, ratio=2.0**k) for s in (0, 1)]
    first, _ = two_sentences(headline(runs))
    assert len(re.findall(r"\bm\d\b", first)) == 3
    assert "m1" in first
    assert "m8" in first


def test_two_asked_ratios(run):
    runs = seeds(run, "full", [0.745, 0.746])
    for ratio in (16.0, 64.0):
        asked = {"ratio": ratio, "budget": None}
        runs += seeds(run, "tt", [0.74 - ratio / 9999, 0.741 - ratio / 9999], ratio=ratio, asked=asked)
        runs += seeds(run, "hash", [0.73 - ratio / 9999, 0.731 - ratio / 9999], ratio=ratio, asked=asked)
    first, second = two_sentences(headline(runs))
    assert "at 16.0× tt @16× keeps" in first
    assert "at 64.0× tt @64× keeps" in first
    assert "At 16.0×" in second


def test_only_uncompressed_results(run, lost):
    first, second = two_sentences(headline([run("full"), lost("tt")]))
    assert first.startswith("Only the full tables gave a result")
    assert "tt" in second
    first, _ = two_sentences(headline([run("full"), run("mlet", ratio=1.0)]))
    assert first.startswith("No method made the tables smaller")


def test_times_of_another_device_are_no_contest(run):
    runs = [run("full"), run("tt", lookup=90.0, auc=0.75), run("hash", lookup=1.0, device="cuda")]
    _, second = two_sentences(headline(runs))
    assert "hash" not in second


def test_little_still_gives_two_sentences(run):
    for runs in ([], [run("tt", metrics={})], [run("full", metrics={}), run("tt", metrics={"auc": 0.7})]):
        two_sentences(headline(runs))


def test_times_of_threads_that_waited_are_no_contest(run):
    runs = [run("full", lookup=40.0), run("tt", lookup=20.0), run("hash", lookup=55.0, train_seconds=900.0)]
    _, second = two_sentences(headline(runs))
    assert "threads waited for each other" in second
    assert "fastest with" not in second
    runs[2].environment["threads"] = 1  # who has one waits for none
    assert "fastest with tt" in headline(runs)


def test_who_is_no_faster_than_full_tables_is_not_called_fastest(run):
    _, second = two_sentences(headline([run("full", lookup=40.0), run("tt", lookup=39.0), run("hash", lookup=55.0)]))
    assert "no method looks up a batch of 128 noticeably faster than full tables (40.0 µs)" in second
    assert "fastest" not in second


def test_a_plain_baseline_that_beats_every_method_is_said_to_in_the_first_sentence(run):
    runs = seeds(run, "full", [0.750, 0.752, 0.751], ratio=1.0)
    runs += seeds(run, "narrow", [0.745, 0.747, 0.7461]) + seeds(run, "hash", [0.740, 0.742, 0.7411])
    runs += seeds(run, "tt", [0.735, 0.737, 0.7361])
    first, _ = two_sentences(headline(runs))
    assert first.startswith("Of the tables made smaller, narrow keeps the most test AUC at 16.0×")
    assert "this plain baseline beats every compression method, the best of them, hash, by 0.0050 ± 0.0000" in first
    assert first.endswith("beyond the spread of 3 paired seeds")


def test_a_plain_baseline_within_the_spread_beats_nothing(run):
    runs = seeds(run, "narrow", [0.745, 0.741, 0.743]) + seeds(run, "hash", [0.741, 0.744, 0.742])
    first, second = two_sentences(headline(runs))
    assert "no compression method beats this plain baseline: the only one, hash, is behind by 0.0007" in first
    assert "beats every" not in first
    assert "within the spread of 3 paired seeds" in first
    assert "the lead of narrow over hash is within the spread" in second.lower()
    # one that is clearly worse does not make the nearest so
    more = [*runs, *seeds(run, "tt", [0.70, 0.70, 0.70])]
    assert "no compression method beats this plain baseline: the best of them, hash" in headline(more)
    first, _ = two_sentences(headline([run("narrow", auc=0.75), run("hash", auc=0.74)]))
    assert "is behind by 0.0100, on the one seed run" in first


def test_a_method_that_wins_is_held_against_the_best_plain_baseline(run):
    runs = seeds(run, "tt+bf16", [0.745, 0.747, 0.746]) + seeds(run, "hash", [0.744, 0.746, 0.745])
    runs += seeds(run, "narrow", [0.740, 0.742, 0.7411]) + seeds(run, "narrow+bf16", [0.739, 0.741, 0.740])
    first, _ = two_sentences(headline(runs))
    assert "; the best plain baseline there, narrow, is behind by 0.0050 ± 0.0001, beyond the spread" in first


def test_each_size_has_its_baselines(run):
    runs = seeds(run, "narrow", [0.747, 0.746], ratio=4) + seeds(run, "qr", [0.744, 0.742], ratio=4)
    runs += seeds(run, "robe", [0.738, 0.739], ratio=200) + seeds(run, "narrow:k=1", [0.70, 0.71], ratio=200)
    first, _ = two_sentences(headline(runs))
    assert "at 4.0× narrow keeps the most test AUC (0.7465 ± 0.0007; no compression method beats this" in first
    assert "at 200.0× robe keeps the most test AUC (0.7385 ± 0.0007; the best plain baseline there, narrow:k=1" in first
