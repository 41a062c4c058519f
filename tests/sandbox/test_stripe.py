"""The Stripe stand-in, spoken to by the real `stripe` package over real HTTP."""

from __future__ import annotations

import pytest
import stripe

from tests.sandbox.running import STRIPE_WARNING, Running, pay_out

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)


def code_of(error: stripe.StripeError) -> str | None:
    return error.error.code if error.error is not None else None


async def test_a_transfer_moves_money_from_the_platform_to_the_account(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    made = await pay_out(client, account)
    assert (made.amount, made.currency, made.destination, made.transfer_group) == (2699, "eur", account, "transfer-1")
    assert made.metadata["transfer_id"] == "transfer-1"
    theirs = await client.v1.balance.retrieve_async(options={"stripe_account": account})
    ours = await client.v1.balance.retrieve_async()
    assert theirs.available[0].amount == 2699
    assert ours.available[0].amount == sandbox.config.platform_float - 2699
    assert await client.v1.transfers.retrieve_async(made.id) == made


async def test_a_wrong_or_missing_key_is_401(sandbox: Running) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        await sandbox.stripe_client(key="sk_test_wrong").v1.balance.retrieve_async()
    assert refused.value.http_status == 401
    assert refused.value.request_id is not None


async def test_a_transfer_beyond_the_balance_is_balance_insufficient(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account()
    await sandbox.stripe_control.call("POST", "balance", {"currency": "eur", "available": 100})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await pay_out(sandbox.stripe_client(), account, amount=101)
    assert (refused.value.http_status, refused.value.code) == (400, "balance_insufficient")
    assert (await pay_out(sandbox.stripe_client(), account, amount=100)).amount == 100


async def test_a_transfer_to_nobody_is_resource_missing(sandbox: Running) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await pay_out(sandbox.stripe_client(), "acct_nobody")
    assert (refused.value.http_status, refused.value.code) == (400, "resource_missing")
    assert refused.value.param == "destination"


async def test_a_transfer_to_an_account_without_the_capability_is_refused(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account(onboarded=False)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await pay_out(sandbox.stripe_client(), account)
    assert (refused.value.http_status, refused.value.code) == (400, "insufficient_capabilities_for_transfer")


async def test_an_account_that_left_the_platform_is_account_invalid(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account()
    await sandbox.stripe_control.call("POST", f"accounts/{account}", {"revoked": True})
    with pytest.raises(stripe.PermissionError) as refused:
        await pay_out(sandbox.stripe_client(), account)
    assert (refused.value.http_status, code_of(refused.value)) == (403, "account_invalid")
    with pytest.raises(stripe.PermissionError):
        await sandbox.stripe_client().v1.accounts.retrieve_async(account)


@pytest.mark.parametrize(
    ("form", "param", "code"),
    [
        ("amount=ten&currency=eur&destination=a", "amount", "parameter_invalid_integer"),
        ("amount=0&currency=eur&destination=a", "amount", "parameter_invalid_integer"),
        ("amount=100000000&currency=eur&destination=a", "amount", "amount_too_large"),
        ("amount=5&destination=a", "currency", "parameter_missing"),
        ("amount=5&currency=eur", "destination", "parameter_missing"),
        ("amount=5&currency=eur&destination=a&colour=red", "colour", "parameter_unknown"),
        ("amount=5&currency=euros&destination=a", "currency", None),
    ],
)
async def test_an_invalid_parameter_is_400_and_named(sandbox: Running, form: str, param: str, code: str | None) -> None:
    client = sandbox.hyperswitch_client()  # plain httpx will do for a request the stripe package would not send
    answer = await client.post(
        f"{sandbox.stripe_url}/v1/transfers",
        content=form,
        headers={"Authorization": f"Bearer {sandbox.config.stripe_secret_key}"},
    )
    await client.aclose()
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error.get("code") == code


async def test_transfers_are_listed_newest_first_by_group_destination_and_time(sandbox: Running) -> None:
    client = sandbox.stripe_client()
    one, other = await sandbox.stripe_control.account(), await sandbox.stripe_control.account()
    first = await pay_out(client, one, group="a")
    second = await pay_out(client, one, group="b")
    third = await pay_out(client, other, group="b")
    assert [t.id for t in (await client.v1.transfers.list_async()).data] == [third.id, second.id, first.id]
    grouped = await client.v1.transfers.list_async({"transfer_group": "b", "destination": one})
    assert [t.id for t in grouped.data] == [second.id]
    later = await client.v1.transfers.list_async({"created": {"gt": third.created}})
    assert later.data == []
    since = await client.v1.transfers.list_async({"created": {"gte": first.created, "lte": third.created}})
    assert len(since.data) == 3


async def test_a_list_is_paged_by_cursor_in_both_directions(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    made = [(await pay_out(client, account, amount=n)).id for n in range(1, 6)]
    page = await client.v1.transfers.list_async({"limit": 2})
    assert ([t.id for t in page.data], page.has_more) == ([made[4], made[3]], True)
    every = [t.id async for t in page.auto_paging_iter()]
    assert every == made[::-1]
    back = await client.v1.transfers.list_async({"limit": 2, "ending_before": made[0]})
    assert [t.id for t in back.data] == [made[2], made[1]]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.transfers.list_async({"limit": 101})
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.transfers.list_async({"starting_after": "tr_nothing"})


async def test_reversals_take_back_up_to_what_remains(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    made = await pay_out(client, account, amount=1000)
    part = await client.v1.transfers.reversals.create_async(made.id, {"amount": 300, "metadata": {"why": "refund"}})
    assert (part.amount, part.transfer) == (300, made.id)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.transfers.reversals.create_async(made.id, {"amount": 701})
    rest = await client.v1.transfers.reversals.create_async(made.id)
    assert rest.amount == 700
    after = await client.v1.transfers.retrieve_async(made.id)
    assert (after.reversed, after.amount_reversed) == (True, 1000)
    listed = await client.v1.transfers.reversals.list_async(made.id)
    assert [r.id for r in listed.data] == [rest.id, part.id]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.transfers.reversals.create_async(made.id)


async def test_a_reversal_the_seller_can_no_longer_cover_is_balance_insufficient(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    made = await pay_out(client, account, amount=1000)
    await sandbox.stripe_control.call("POST", "balance", {"account": account, "currency": "eur", "available": 10})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.transfers.reversals.create_async(made.id)
    assert refused.value.code == "balance_insufficient"


async def test_a_transfers_metadata_is_merged_and_emptied_by_name(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    made = await pay_out(client, account)
    changed = await client.v1.transfers.update_async(made.id, {"metadata": {"transfer_id": "", "note": "seen"}})
    assert changed.metadata.to_dict() == {"note": "seen"}


async def test_what_is_not_there_is_404(sandbox: Running) -> None:
    client = sandbox.stripe_client()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.transfers.retrieve_async("tr_nothing")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.charges.list_async()
    assert refused.value.http_status == 404
