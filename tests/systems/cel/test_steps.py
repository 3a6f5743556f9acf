from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyvec.systems.cel.config import CELConfig

CONFIG = CELConfig(
    width=4,
    item_clusters=6,
    decay=0.01,
    shrinkage=1.0,
    split_every=3,
    reassign_every=4,
    reassign_at="all",
    cluster_steps=30,
)


def made(begin, small, config=CONFIG, steps=30, rate=1e-3):
    run = begin(config, small.training, small.num_users, small.num_items, rate)
    for step in range(steps):
        run.step(step)
    return run


def test_rows_of_nmf_never_fall_below_zero(begin, small):
    run = begin(CONFIG, small.training, small.num_users, small.num_items, 5e-3)
    touched = False
    for step in range(40):
        run.step(step)
        assert float(run.network.users.weight.detach().min()) >= 0
        assert float(run.network.items.weight.detach().min()) >= 0
        touched |= bool((run.network.users.weight == 0).any())
    assert touched
    free = made(begin, small, replace(CONFIG, nonnegative=False), rate=5e-3)
    assert float(free.network.users.weight.detach().min()) < 0


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(begin, small):
    first, second = made(begin, small), made(begin, small)
    assert torch.equal(first.network.items.assign, second.network.items.assign)
    assert torch.equal(first.network.items.weight, second.network.items.weight)
    other = begin(CONFIG, small.training, small.num_users, small.num_items, 1e-3, seed=1)
    assert not torch.equal(first.network.users.weight, other.network.users.weight)


def test_a_run_goes_on_from_its_state_as_if_it_had_never_stopped(begin, small):
    whole = made(begin, small, steps=40)
    half = made(begin, small, steps=17)
    later = begin(CONFIG, small.training, small.num_users, small.num_items, 1e-3, seed=0)
    later.network.load_state_dict(half.network.state_dict())
    later.optimizer.load_state_dict(half.optimizer.state_dict())
    for step in range(17, 40):
        later.step(step)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, later.network.state_dict()[name]), name


def test_where_every_item_is_a_cluster_a_step_is_plain_matrix_factorisation(begin, small):
    run = begin(replace(CONFIG, item_table="full"), small.training, small.num_users, small.num_items, 1e-3)
    users, items = (
        t.weight.detach().clone().requires_grad_() for t in (run.network.users, run.network.items)
    )
    records = small.training
    error = ((users[records.users] * items[records.items]).sum(dim=1) - records.labels).square().sum()
    (error + 0.01 * (users.square().sum() + items.square().sum())).backward()
    run.step(0)
    for table, before in ((run.network.users, users), (run.network.items, items)):
        expected = (before - 1e-3 * before.grad).clamp(min=0).detach()
        torch.testing.assert_close(table.weight.detach(), expected, rtol=1e-9, atol=1e-12)


def test_the_pull_shrinks_clusters_to_their_common_mean(begin, small):
    def spread(shrinkage):
        rows = made(
            begin, small, replace(CONFIG, shrinkage=shrinkage), steps=60
        ).network.items.weight.detach()
        return float((rows - rows.mean(dim=0)).square().sum())

    assert spread(300.0) < 0.7 * spread(0.0)


# --- vectors of one's own

PERSONAL = replace(CONFIG, personal_from=30, pull=5.0)


@pytest.mark.parametrize("kind", ["full", "clustered"])
def test_rows_that_a_batch_does_not_look_at_stay_as_they_are(begin, small, kind):
    config = replace(
        CONFIG, item_table=kind, full_batch=False, start=6, split_every=100, reassign_every=0, decay=1.0
    )
    run = begin(config, small.training, small.num_users, small.num_items, 1e-3)
    run.records = small.training.take(torch.arange(2))
    before = [table.weight.detach().clone() for table in (run.network.users, run.network.items)]
    run.step(1)
    for table, rows, ids in zip(
        (run.network.users, run.network.items), before, (run.records.users, run.records.items), strict=True
    ):
        is_looked_at = torch.zeros(len(rows), dtype=torch.bool)
        is_looked_at[table.clusters_of(ids)] = True
        changed = (table.weight.detach() != rows).any(dim=1)
        assert torch.equal(changed, is_looked_at)


def test_personal_vectors_start_at_their_clusters_rows(begin, small):
    run = made(begin, small, PERSONAL)
    before = run.loss()
    run.steps.begin(30)
    assert bool(run.network.is_personal)
    assert run.loss() == pytest.approx(before, rel=1e-12)
    assert torch.equal(run.network.personal, run.network.items(torch.arange(small.num_items)))


def test_rows_are_the_means_of_their_members_and_members_go_to_the_nearest_row(begin, small):
    run = made(begin, small, PERSONAL, steps=30)
    for step in range(30, 50):
        run.steps.begin(step)
        run.optimizer.zero_grad()
        run.objective(run.records)[0].backward()
        run.optimizer.step()
        assigned = run.network.items.assign.clone()
        run.steps.after_update(step)
        for cluster in range(run.network.items.num_clusters):
            members = assigned == cluster
            expected = run.network.personal[members].mean(dim=0)
            torch.testing.assert_close(
                run.network.items.weight[cluster], expected.detach(), rtol=1e-9, atol=1e-12
            )
        distances = torch.cdist(run.network.personal, run.network.items.weight)
        assert torch.equal(distances.argmin(dim=1), run.network.items.assign.long())
        assert (run.network.items.sizes() > 0).all()


def test_who_goes_to_a_nearer_row_has_moved_once_more(begin, small):
    run = made(begin, small, replace(PERSONAL, pull=0.0), steps=30)
    table, total = run.network.items, 0
    for step in range(30, 60):
        moves, assigned = table.lineage.moves.clone(), table.assign.clone()
        run.step(step)
        assert torch.equal(table.lineage.moves - moves, (table.assign != assigned).to(torch.uint8))
        total += int((table.assign != assigned).sum())
    assert total > 0


def test_the_larger_the_pull_the_nearer_they_stay_to_the_rows(begin, small):
    def distance(pull):
        run = made(begin, small, replace(PERSONAL, pull=pull), steps=60)
        own = run.network.items(torch.arange(small.num_items))
        return float((run.network.personal - own).detach().square().sum())

    free, pulled, held = distance(0.0), distance(20.0), distance(450.0)
    assert free > pulled > held
    assert held < 0.02 * free


def test_an_item_without_data_nears_its_row_by_one_minus_two_eta_lambda_a_step(begin, small):
    kept = (small.training.items != 7).nonzero()[:, 0]
    records = small.training.take(kept)
    config = replace(PERSONAL, decay=0.0, nonnegative=False)
    run = begin(config, records, small.num_users, small.num_items, 1e-3)
    for step in range(30):
        run.step(step)
    run.steps.begin(30)
    with torch.no_grad():
        run.network.personal[7] += 1.0
    row = run.network.items(torch.tensor(7)).detach().clone()
    before = run.network.personal[7].detach() - row
    run.optimizer.zero_grad()
    run.objective(records)[0].backward()
    run.optimizer.step()
    torch.testing.assert_close(run.network.personal[7].detach() - row, before * (1 - 2 * 1e-3 * 5.0))


def test_items_of_few_records_follow_their_cluster(begin, small):
    counts = torch.bincount(small.training.items, minlength=small.num_items)
    least = int(counts.median())
    run = made(begin, small, replace(PERSONAL, personal_events=least), steps=50)
    vectors, rows = run.network.item_vectors(), run.network.items(torch.arange(small.num_items))
    is_own = (vectors != rows).any(dim=1)
    assert torch.equal(is_own, counts >= least)


def test_items_may_not_become_personal_while_clusters_still_change():
    for cluster_steps in (0, 31):
        with pytest.raises(ValueError, match="must not come before cluster_steps end"):
            replace(PERSONAL, cluster_steps=cluster_steps)
