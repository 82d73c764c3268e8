"""Splits: no group on both sides, every class in proportion, and every leak refused."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mammography.archive.manifest import build_manifest
from mammography.archive.splits import (
    Split,
    folds,
    groups_of,
    hold_out,
    leave_one_group_out,
    read_split,
    refuse_leaks,
    split_frame,
)
from mammography.errors import LabelTableError, SplitError
from mammography.runs import pseudonym

Row = tuple[str, "str | None", "str | None", Any]


def frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows of image_id, patient, exam and density."""
    columns = {"image_id": pl.String, "patient": pl.String, "exam": pl.String, "density": pl.Int8}
    return pl.DataFrame(list(rows), schema=columns, orient="row")


def archive(patients: int = 400, seed: int = 0) -> pl.DataFrame:
    """Patients with one or two exams of two to four images; the classes as rare as in practice."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for patient in range(patients):
        density = int(rng.choice(4, p=[0.03, 0.25, 0.52, 0.2])) + 1
        for exam in range(rng.integers(1, 3)):
            for image in range(rng.integers(2, 5)):
                name = f"{patient}/{exam}/{image}"
                rows.append((name, f"p{patient}", f"e{patient}-{exam}", density))
    return frame_of(rows)


def shuffled(frame: pl.DataFrame, seed: int = 7) -> pl.DataFrame:
    return frame.sample(fraction=1.0, shuffle=True, seed=seed)


def plain_groups(frame: pl.DataFrame) -> list[set[int]]:
    """Components by merging sets until nothing is left to merge."""
    rows = frame.select("patient", "exam").rows()
    sets = [{row} for row in range(len(rows))]

    def linked(one: set[int], other: set[int]) -> bool:
        return any(
            a is not None and a == b
            for i in one
            for j in other
            for a, b in zip(rows[i], rows[j], strict=True)
        )

    merged = True
    while merged:
        merged = False
        for one in sets:
            for other in [other for other in sets if other is not one and linked(one, other)]:
                one |= other
                sets = [kept for kept in sets if kept is not other]
                merged = True
            if merged:
                break
    return sets


names = st.one_of(st.none(), st.sampled_from([*"abcdef"]))
wild_frames = st.lists(st.tuples(names, names, st.integers(1, 4)), min_size=1, max_size=24).map(
    lambda rows: frame_of((f"i{number}", *row) for number, row in enumerate(rows))
)
many_groups = st.lists(
    st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 60)), st.integers(1, 4)),
    min_size=2,
    max_size=80,
).map(
    lambda rows: frame_of(
        (f"i{number}", f"p{patient}", exam and f"e{patient}-{exam}", density)
        for number, (patient, exam, density) in enumerate(rows)
    )
)


def sides_of_groups(split: Split, frame: pl.DataFrame) -> list[set[str]]:
    side = dict.fromkeys(split.train, "train") | dict.fromkeys(split.validation, "validation")
    ids = frame["image_id"]
    return [{side[ids[row]] for row in group} for group in plain_groups(frame)]


def assert_sound(split: Split, frame: pl.DataFrame) -> None:
    """Every image once, in the frame's order, and no group on both sides."""
    ids = frame["image_id"].to_list()
    assert sorted(split.train + split.validation) == sorted(ids)
    assert split.train == tuple(i for i in ids if i in set(split.train))
    assert split.validation == tuple(i for i in ids if i in set(split.validation))
    assert split.train
    assert split.validation
    assert all(len(sides) == 1 for sides in sides_of_groups(split, frame))
    refuse_leaks(split, frame)


# Groups


def test_images_of_a_patient_or_an_exam_are_one_group_also_through_others() -> None:
    frame = frame_of(
        [
            ("two exams of p1", "p1", "e1", 1),
            ("", "p1", "e2", 1),
            ("p2 shares e2", "p2", "e2", 1),
            ("and has e3", "p2", "e3", 1),
            ("alone", "p3", "e4", 1),
            ("by exam", None, "e4", 1),
            ("by exam too", None, "e5", 1),
            ("again", None, "e5", 1),
            ("nameless", None, None, 1),
            ("nameless too", None, None, 1),
            ("without exam", "p2", None, 1),
            ("an exam called p1", "p4", "p1", 1),
        ]
    )
    assert groups_of(frame) == [0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 0, 5]


@given(frame=wild_frames)
def test_groups_are_the_connected_components(frame: pl.DataFrame) -> None:
    groups = groups_of(frame)
    found = [{row for row, of in enumerate(groups) if of == group} for group in set(groups)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, plain_groups(frame)))
    firsts = [groups.index(group) for group in range(max(groups) + 1)]
    assert firsts == sorted(firsts)


def test_a_long_chain_is_one_group() -> None:
    rows = [(f"i{n}", f"p{n // 2}", f"e{(n + 1) // 2}", 1) for n in range(20_000)]
    assert set(groups_of(frame_of(rows))) == {0}
    assert set(groups_of(frame_of(reversed(rows)))) == {0}


# Making splits


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frame=st.one_of(wild_frames, many_groups),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32),
)
def test_hold_out_is_sound_or_refused(frame: pl.DataFrame, fraction: float, seed: int) -> None:
    try:
        split = hold_out(frame, "density", fraction, seed)
    except SplitError:
        groups = plain_groups(frame)
        counts = Counter(d for group in groups for d in {frame["density"][row] for row in group})
        single = [g for g in groups if all(counts[frame["density"][row]] > 1 for row in g)]
        assert not single, "a group whose classes all have another one could have been held out"
        return
    assert_sound(split, frame)
    labels, sides = frame["density"], sides_of_groups(split, frame)
    training = [g for g, side in zip(plain_groups(frame), sides, strict=True) if "train" in side]
    trained = Counter(d for group in training for d in {labels[row] for row in group})
    assert set(trained) == set(labels), "every class trains"
    validated = set(frame.filter(pl.col("image_id").is_in(split.validation))["density"])
    spared = [g for g in training if all(trained[labels[row]] > 1 for row in g)]
    assert {labels[row] for group in spared for row in group} <= validated
    again = hold_out(shuffled(frame), "density", fraction, seed)
    assert sorted(again.validation) == sorted(split.validation)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=st.one_of(wild_frames, many_groups), k=st.integers(2, 7), seed=st.integers(0, 9))
def test_folds_are_sound_or_refused(frame: pl.DataFrame, k: int, seed: int) -> None:
    if len(plain_groups(frame)) < k:
        with pytest.raises(SplitError, match=f"{k} folds cannot be made"):
            folds(frame, "density", k, seed)
        return
    splits = folds(frame, "density", k, seed)
    assert len(splits) == k
    for split in splits:
        assert_sound(split, frame)
    validated = [image_id for split in splits for image_id in split.validation]
    assert sorted(validated) == sorted(frame["image_id"])
    again = folds(shuffled(frame), "density", k, seed)
    assert [sorted(s.validation) for s in again] == [sorted(s.validation) for s in splits]


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_class_is_held_out_in_proportion(fraction: float, seed: int) -> None:
    frame = archive()
    split = hold_out(frame, "density", fraction, seed)
    held = frame.filter(pl.col("image_id").is_in(split.validation))
    all_images, held_images = (Counter(f["density"].to_list()) for f in (frame, held))
    assert min(all_images.values()) < 50, "the example must have a rare class"
    for density, count in all_images.items():
        assert held_images[density] == pytest.approx(fraction * count, abs=4), density
    assert held.height == pytest.approx(fraction * frame.height, abs=4)


def test_groups_of_one_image_are_divided_to_the_image() -> None:
    frame = frame_of((f"i{n}", None, None, 1 + n % 2) for n in range(200))
    for split in folds(frame, "density", 5, seed=3):
        held = frame.filter(pl.col("image_id").is_in(split.validation))
        assert Counter(held["density"].to_list()) == {1: 20, 2: 20}


def worst(frame: pl.DataFrame, validations: Iterable[Iterable[str]], k: int) -> float:
    """The largest distance of a class's share in a fold from 1 / k."""
    counts = Counter(frame["density"].to_list())
    label = dict(frame.select("image_id", "density").rows())
    held = [Counter(label[image_id] for image_id in ids) for ids in validations]
    return max(abs(fold[d] / counts[d] - 1 / k) for fold in held for d in counts)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_folds_are_at_least_as_even_as_scikit_learn_makes_them(k: int) -> None:
    ours, theirs = [], []
    for seed in range(5):
        frame = archive(300, seed)
        ours.append(worst(frame, (s.validation for s in folds(frame, "density", k, seed)), k))
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        parts = splitter.split(frame["density"], frame["density"], frame["patient"])
        ids = frame["image_id"].to_numpy()
        theirs.append(worst(frame, (ids[rows] for _, rows in parts), k))
    assert np.mean(ours) <= np.mean(theirs)


def test_seeds_give_different_splits_and_one_seed_the_same() -> None:
    frame = archive()
    held = [frozenset(hold_out(frame, "density", 0.2, seed).validation) for seed in range(10)]
    assert len(set(held)) == 10
    expected = 0.2 * 0.2 * frame.height  # of two draws that know nothing of each other
    overlaps = [len(a & b) for a in held for b in held if a != b]
    assert np.mean(overlaps) < 2 * expected
    assert hold_out(frame, "density", 0.2, 3) == hold_out(frame, "density", 0.2, 3)


def test_a_split_stays_the_same_for_ever() -> None:
    """Published splits must not change with a version of this package or of those below it."""
    frame = frame_of((f"i{n:02}", f"p{n // 2}", None, 1 + n // 8) for n in range(32))
    split = hold_out(frame, "density", 0.25, seed=42)
    assert split.validation == ("i06", "i07", "i08", "i09", "i18", "i19", "i26", "i27")


def test_a_class_of_two_groups_is_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"c{n}", f"p{n}", f"e{n}", 3) for n in range(40)]
    rows += [(f"a{n}", f"a{n % 2}", None, 1) for n in range(4)]
    frame = frame_of(rows)
    for seed in range(5):
        split = hold_out(frame, "density", 0.2, seed)
        assert sum(image_id.startswith("a") for image_id in split.validation) == 2
    assert not warnings(caplog)


def test_the_smaller_of_two_groups_validates() -> None:
    rows = [(f"c{n}", f"p{n}", f"e{n}", 3) for n in range(40)]
    rows += [(f"a{n}", "large" if n < 4 else "small", None, 1) for n in range(7)]
    for seed in range(5):
        held = hold_out(frame_of(rows), "density", 0.2, seed).validation
        assert {i for i in held if i.startswith("a")} == {"a4", "a5", "a6"}


def test_a_class_of_one_group_trains(caplog: pytest.LogCaptureFixture) -> None:
    frame = frame_of(
        [
            *((f"c{n}", f"p{n}", None, 3) for n in range(9)),
            *((f"a{n}", "x", None, 1) for n in (0, 1)),
        ]
    )
    for seed in range(5):
        assert {"a0", "a1"} <= set(hold_out(frame, "density", 0.2, seed).train)
    assert warnings(caplog)[0] == (
        "the split: no validation image of class 1, which 1 groups of images have; nothing is "
        "measured of it"
    )
    caplog.clear()
    folds(frame, "density", 3, seed=0)
    without = [text for text in warnings(caplog) if "no validation image of class 1" in text]
    untrained = [text for text in warnings(caplog) if "no training image of class 1" in text]
    assert (len(without), len(untrained)) == (2, 1)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_images_without_a_patient_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = [("a", None, "e1", 1), ("b", None, "e1", 1), ("c", None, None, 1), ("d", "p", "e2", 1)]
    hold_out(frame_of(rows), "density", 0.25, 0)
    assert warnings(caplog) == [
        "2 images have no patient: they are grouped by exam",
        "1 images have neither patient nor exam: each is split on its own",
    ]
    caplog.clear()
    rows += [("e", "q", "e2", 1), ("f", "r", "e2", 1)]
    leave_one_group_out(frame_of(rows))
    assert warnings(caplog)[-1] == (
        "1 exams hold images of more than one patient, which stay together; the largest is 'e2' "
        "with 3 patients"
    )


def test_too_few_groups_are_refused() -> None:
    one_folder = frame_of((f"i{n}", f"p{n}", "images", 1 + n % 2) for n in range(10))
    for make in (
        lambda frame: hold_out(frame, "density", 0.2, 0),
        lambda frame: folds(frame, "density", 5, 0),
        leave_one_group_out,
    ):
        with pytest.raises(SplitError, match=r"10 images in 1 groups.*'images' joins 10 patients"):
            make(one_folder)
        with pytest.raises(SplitError, match="0 images in 0 groups"):
            make(one_folder.clear())
    different = frame_of((f"i{n}", f"p{n}", None, n) for n in range(1, 5))
    with pytest.raises(SplitError, match="a class needs two groups"):
        hold_out(different, "density", 0.2, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(SplitError, match="between 0 and 1"):
        hold_out(archive(5), "density", fraction, 0)


@pytest.mark.parametrize("k", [-1, 0, 1, 6])
def test_folds_that_cannot_be_are_refused(k: int) -> None:
    with pytest.raises(SplitError, match="from 2 folds to as many as there are groups"):
        folds(archive(5), "density", k, 0)


def test_an_image_without_a_class_is_refused() -> None:
    frame = frame_of([("a", "p", None, 1), ("b", "q", None, None)])
    with pytest.raises(SplitError, match="1 images have no density"):
        hold_out(frame, "density", 0.5, 0)


def test_leave_one_group_out() -> None:
    frame = frame_of(
        [("d", "q", "e", 1), ("c", "p", "f", 1), ("b", "q", None, 2), ("a", "r", "f", 1)]
    )
    splits = leave_one_group_out(frame)
    assert splits == [Split(("d", "b"), ("c", "a")), Split(("c", "a"), ("d", "b"))]


def test_mini_mias_women_are_never_divided(shared: Path) -> None:
    root = shared / "data" / "mini-mias"
    frame = build_manifest(root, root / "labels.csv", workers=1).frame
    splits = folds(frame, "tissue", 5, seed=42)
    assert sorted(i for split in splits for i in split.validation) == sorted(frame["image_id"])
    for split in splits:
        refuse_leaks(split, frame)
        held = frame.filter(pl.col("image_id").is_in(split.validation))
        assert not set(held["patient"]) & set(
            frame.filter(pl.col("image_id").is_in(split.train))["patient"]
        )
        for tissue, count in Counter(frame["tissue"].to_list()).items():
            share = (held["tissue"] == tissue).sum()
            assert share == pytest.approx(count / 5, abs=2), tissue


# Refusing leaks


@given(frame=wild_frames, data=st.data())
def test_exactly_the_splits_that_tear_a_group_leak(frame: pl.DataFrame, data: Any) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=frame.height, max_size=frame.height))
    pairs = list(zip(frame["image_id"], chosen, strict=True))
    split = Split(tuple(i for i, side in pairs if not side), tuple(i for i, side in pairs if side))
    torn = sum(len(sides) > 1 for sides in sides_of_groups(split, frame))
    if torn:
        with pytest.raises(SplitError, match=f"The split leaks: {torn} groups"):
            refuse_leaks(split, frame)
    else:
        refuse_leaks(split, frame)


def test_a_leak_is_named() -> None:
    frame = frame_of(
        [
            ("a", "p1", "e1", 1), ("b", "p1", "e2", 1), ("c", "p2", "e2", 1), ("d", "p3", "e3", 1),
            ("e", None, "e4", 1), ("f", None, "e4", 1),
        ]
    )  # fmt: skip
    with pytest.raises(SplitError) as raised:
        refuse_leaks(Split(("a", "d", "e"), ("b", "c", "f")), frame)
    assert str(raised.value) == (
        "The split leaks: 2 groups of images of one patient or exam lie on both sides. "
        "patient 'p1', 'p2', exam 'e1', 'e2': train 'a', validation 'b', 'c'; "
        "exam 'e4': train 'e', validation 'f'. Put each of them on one side."
    )


def test_many_leaks_are_counted() -> None:
    frame = frame_of((f"i{n:02}", f"p{n % 10}", None, 1) for n in range(20))
    ids = tuple(frame["image_id"])
    with pytest.raises(SplitError, match=r"10 groups .*'p2'.*; and 7 more\."):
        refuse_leaks(Split(ids[:10], ids[10:]), frame)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(("a", "b"), ("b", "c")), "more than once: 'b'"),
        (Split(("a", "b", "b"), ("c",)), "more than once: 'b'"),
        (Split(("a",), ("c",)), "only the split has none; only the manifest has 'b'"),
        (Split(("a", "b"), ("c", "d")), "only the split has 'd'; only the manifest has none"),
    ],
)
def test_split_and_manifest_must_be_of_the_same_images(split: Split, message: str) -> None:
    frame = frame_of((name, None, None, 1) for name in "abc")
    for check in (refuse_leaks, split_frame):
        with pytest.raises(SplitError, match=message):
            check(split, frame)


# Tables of splits

SIX = frame_of(
    [
        ("001", "p1", "e1", 1),
        ("002", "p1", "e2", 1),
        ("a/b, c", "p2", "e3", 2),
        ("d", None, "e4", 2),
        ("e", None, "e4", 2),
        ("f", "p4", "e5", 1),
    ]
)
WANTED = Split(("001", "002", "d", "e"), ("a/b, c", "f"))


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "split.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_what_a_run_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    table = split_frame(WANTED, SIX)
    assert table.columns == ["image_id", "exam", "patient", "split"]
    table.write_csv(path)
    assert read_split(path, SIX) == WANTED
    frame = archive(30)
    split = hold_out(frame, "density", 0.3, 1)
    split_frame(split, frame).write_csv(path)
    again = read_split(path, shuffled(frame))
    assert (set(again.train), set(again.validation)) == (set(split.train), set(split.validation))


BY_IMAGE = (
    'image_id,split\n001,train\n002,train\n"a/b, c",validation\nd,train\ne,train\nf,validation\n'
)


@pytest.mark.parametrize(
    "text",
    [
        BY_IMAGE,
        BY_IMAGE.replace("image_id,split", "Sample ID,Set"),
        BY_IMAGE.replace("train", "TRAINING").replace("validation", "Val"),
        BY_IMAGE.replace("validation", "valid"),
        BY_IMAGE.replace("validation", "test"),
        "Split;AccessionNumber\ntrain;e1\ntrain;e2\nval;e3\ntrain;e4\nval;e5\n",
        "exam\tsubset\ne1\ttrain\ne1\ttrain\ne2\t train \ne3\tdev\ne4\ttrain\ne5\tdev\n\n",
        "patient,exam,split\np1,e1,train\np1,e2,train\np2,e3,test\n,e4,train\np4,e5,test\n",
    ],
)
def test_spellings(tmp_path: Path, text: str) -> None:
    assert read_split(write(tmp_path, text), SIX) == WANTED
    assert read_split(write(tmp_path, text, "utf-8-sig"), SIX) == WANTED


def test_patients_may_be_named_as_in_the_headers(tmp_path: Path) -> None:
    frame = frame_of([("a", pseudonym("007"), "e1", 1), ("b", pseudonym("8"), "e2", 1)])
    wanted = Split(("a",), ("b",))
    assert read_split(write(tmp_path, "PatientID,split\n007,train\n8,val\n"), frame) == wanted
    hashed = f"patient,split\n{pseudonym('007')},train\n8,val\n"
    assert read_split(write(tmp_path, hashed), frame) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BY_IMAGE.replace("002,train", "002,val"),
            "leaks: 1 groups.*'p1'.*train '001', valid.*'002'",
        ),
        (BY_IMAGE.replace("e,train", "e,val"), "leaks: 1 groups.*exam 'e4'"),
        (BY_IMAGE.replace("f,validation\n", ""), "these images on neither side: 'f'"),
        (BY_IMAGE + "x,train\ny,train\n", "image_ids that are not in the manifest: 'x', 'y'"),
        (BY_IMAGE.replace("001", "1"), "image_ids that are not in the manifest: '1'"),
        (BY_IMAGE + "f,train\n", "the same image_id on both sides: 'f'"),
        (BY_IMAGE + "f,validation\n", "images more than once: 'f'"),
        (BY_IMAGE + ",train\n", "row 7 has nothing under 'image_id'"),
        (BY_IMAGE.replace("d,train", "d,"), "must say train or validation everywhere.*''"),
        (BY_IMAGE.replace("d,train", "d,holdout"), "'split' must say train.*'holdout'"),
        (BY_IMAGE.replace("f,validation", "f,test"), "both validation and test images"),
        (BY_IMAGE.replace("d,train", "d,train,x"), "1 broken rows; row 4: line 5 has 3 fields"),
        (BY_IMAGE.replace("validation", "train"), "all images on one side"),
        ("image_id,fold\n001,train\n", "No column of .* is called split; its columns are"),
        ("image_number,split\n1,train\n", "is called image_id, exam or patient; its columns are"),
        ("exam,split\ne1,train\ne1,val\n", "the same exam on both sides: 'e1'"),
        ("patient,split\np1,train\np2,val\np4,val\n", "neither side: 'd', 'e'"),
        ("exam,split\ne1,train\ne2,val\ne3,train\ne4,val\ne5,val\n", "leaks.*patient 'p1'"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        read_split(write(tmp_path, text), SIX)


def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    text = BY_IMAGE + "".join(f"x{n},train\n" for n in range(20))
    with pytest.raises(SplitError, match=re.escape("'x0', 'x1', 'x2' and 17 more.")):
        read_split(write(tmp_path, text), SIX)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="cannot be read"):
        read_split(tmp_path / "nowhere.csv", SIX)
