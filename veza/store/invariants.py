"""What must hold of the money, each a query that must find nothing (the ledger's seven invariants, all but the sixth).

The sixth is held against the payout provider: `veza.domain.ledger.compare`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# A finding a row: what it is about, and what is wrong with it.
INVARIANTS: Final[Mapping[str, str]] = {
    "1: a journal's entries sum to nothing": """
        SELECT journal.id AS subject, format('%s in %s over %s entries', coalesce(sum(amount_cents), 0), currency,
            count(entry.id)) AS detail
        FROM journals AS journal LEFT JOIN entries AS entry ON journal_id = journal.id
        GROUP BY journal.id, currency
        HAVING coalesce(sum(amount_cents), 0) <> 0 OR count(entry.id) = 0
        UNION ALL
        SELECT journal_id, format('entry %s is in %s, its account in %s', entry.id, entry.currency, account.currency)
        FROM entries AS entry JOIN ledger_accounts AS account ON account.id = account_id
        WHERE entry.currency <> account.currency
    """,
    "2: an order's capture is its sellers' shares and the fee": """
        WITH captured AS (
            SELECT journal.order_id,
                coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'clearing'), 0) AS paid,
                -coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'seller'), 0) AS sellers,
                -coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'platform_fee'), 0) AS fee
            FROM journals AS journal JOIN entries ON journal_id = journal.id
            JOIN ledger_accounts AS account ON account.id = account_id
            WHERE journal.kind = 'capture' GROUP BY journal.order_id
        ), earned AS (
            SELECT order_id, sum(gross_cents - fee_cents) AS sellers, sum(fee_cents) AS fee
            FROM earnings GROUP BY order_id
        )
        SELECT orders.id AS subject, format('%s cost, %s captured, %s of %s to sellers, %s of %s in fees',
            total_cents, coalesce(paid, 0), coalesce(captured.sellers, 0), coalesce(earned.sellers, 0),
            coalesce(captured.fee, 0), coalesce(earned.fee, 0)) AS detail
        FROM orders LEFT JOIN captured ON captured.order_id = orders.id LEFT JOIN earned ON earned.order_id = orders.id
        WHERE CASE WHEN paid_at IS NOT NULL AND total_cents > 0
            THEN (total_cents, earned.sellers, earned.fee) IS DISTINCT FROM (paid, captured.sellers, captured.fee)
            ELSE captured.order_id IS NOT NULL END
    """,
    "3: no more is given back than came, and no more sent than earned": """
        SELECT journal.order_id AS subject, format('%s of %s given back', -sum(least(amount_cents, 0)),
            sum(greatest(amount_cents, 0))) AS detail
        FROM journals AS journal JOIN entries ON journal_id = journal.id
        JOIN ledger_accounts AS account ON account.id = account_id
        WHERE account.kind = 'clearing' GROUP BY journal.order_id HAVING sum(amount_cents) < 0
        UNION ALL
        SELECT journal.order_id,
            format('%s of %s sent came back', sum(greatest(amount_cents, 0)), -sum(least(amount_cents, 0)))
        FROM journals AS journal JOIN entries ON journal_id = journal.id
        JOIN ledger_accounts AS account ON account.id = account_id
        WHERE account.kind = 'payouts' GROUP BY journal.order_id HAVING sum(amount_cents) > 0
        UNION ALL
        SELECT item.order_id, format('%s of %s taken from line %s, %s by its refunds', refunded_cents, total_cents,
            item.id, coalesce(sum(part.amount_cents) FILTER (WHERE refund.status IN ('pending', 'succeeded')), 0))
        FROM order_items AS item LEFT JOIN refund_items AS part ON order_item_id = item.id
        LEFT JOIN refunds AS refund ON refund.id = refund_id AND refund.order_id = item.order_id
        GROUP BY item.id HAVING refunded_cents
            <> coalesce(sum(part.amount_cents) FILTER (WHERE refund.status IN ('pending', 'succeeded')), 0)
        UNION ALL
        SELECT transfer.id, format('%s sent of %s earned', amount_cents, coalesce(gross_cents - fee_cents, 0))
        FROM transfers AS transfer LEFT JOIN earnings USING (order_id, seller_id)
        WHERE amount_cents > coalesce(gross_cents - fee_cents, 0)
    """,
    "4: what a seller has to get or to give is on record": """
        WITH booked AS (
            SELECT owner AS seller_id, account.currency, -sum(amount_cents) AS cents
            FROM ledger_accounts AS account JOIN entries ON account_id = account.id
            WHERE account.kind = 'seller' GROUP BY owner, account.currency
        ), to_get AS (
            SELECT seller_id, currency, sum(amount_cents - withheld_cents) AS cents FROM transfers
            WHERE external_ref IS NULL AND status <> 'completed' GROUP BY seller_id, currency
        ), to_give AS (
            SELECT seller_id, currency, sum(gross_cents - fee_cents - withheld_cents - reversed_cents) AS cents
            FROM refund_shares WHERE status IN ('waiting', 'reversing', 'owed') GROUP BY seller_id, currency
        )
        SELECT seller_id AS subject, format('%s %s by the ledger, %s to get and %s to give by the rows',
            coalesce(booked.cents, 0), currency, coalesce(to_get.cents, 0), coalesce(to_give.cents, 0)) AS detail
        FROM booked FULL JOIN to_get USING (seller_id, currency) FULL JOIN to_give USING (seller_id, currency)
        WHERE coalesce(booked.cents, 0) <> coalesce(to_get.cents, 0) - coalesce(to_give.cents, 0)
        UNION ALL
        SELECT transfer.id, format('%s withheld, %s by its withholdings', withheld_cents,
            coalesce(sum(taken.amount_cents), 0))
        FROM transfers AS transfer LEFT JOIN withholdings AS taken ON transfer_id = transfer.id
        GROUP BY transfer.id HAVING coalesce(sum(taken.amount_cents), 0) <> withheld_cents
        UNION ALL
        SELECT share.id, format('%s withheld, %s by its withholdings', withheld_cents,
            coalesce(sum(taken.amount_cents), 0))
        FROM refund_shares AS share LEFT JOIN withholdings AS taken ON share_id = share.id
        GROUP BY share.id HAVING coalesce(sum(taken.amount_cents), 0) <> withheld_cents
        UNION ALL
        SELECT transfer.id, format('%s refunds under way by its count, %s by the rows', open_refunds,
            count(refund.id) FILTER (WHERE refund.status = 'pending'))
        FROM transfers AS transfer LEFT JOIN refund_shares AS share USING (order_id, seller_id)
        LEFT JOIN refunds AS refund ON refund.id = share.refund_id
        GROUP BY transfer.id HAVING open_refunds <> count(refund.id) FILTER (WHERE refund.status = 'pending')
        UNION ALL
        SELECT transfer.id, format('%s reversed, %s by its shares', transfer.reversed_cents,
            coalesce(sum(share.reversed_cents), 0))
        FROM transfers AS transfer LEFT JOIN refund_shares AS share USING (order_id, seller_id)
        GROUP BY transfer.id HAVING coalesce(sum(share.reversed_cents), 0) <> transfer.reversed_cents
    """,
    "5: each thing that happened is booked once": """
        SELECT transfer.id AS subject, format('%s with %s journals', status, count(journal.id)) AS detail
        FROM transfers AS transfer LEFT JOIN journals AS journal
            ON journal.kind = 'transfer' AND journal.external_ref = 'stripe:' || transfer.external_ref
        GROUP BY transfer.id HAVING count(journal.id) <> (transfer.external_ref IS NOT NULL)::int
        UNION ALL
        SELECT journal.id, format('%s belongs to no transfer', journal.external_ref)
        FROM journals AS journal
        LEFT JOIN transfers AS transfer ON journal.external_ref = 'stripe:' || transfer.external_ref
        WHERE journal.kind = 'transfer' AND transfer.id IS NULL
        UNION ALL
        SELECT order_id, format('captured %s times', count(*)) FROM journals WHERE kind = 'capture'
        GROUP BY order_id HAVING count(*) > 1
        UNION ALL
        SELECT transfer.id, format('%s entered of %s', coalesce(-sum(entry.amount_cents), 0),
            transfer.amount_cents - transfer.withheld_cents)
        FROM transfers AS transfer
        JOIN journals AS journal ON journal.external_ref = 'stripe:' || transfer.external_ref
        LEFT JOIN entries AS entry ON entry.journal_id = journal.id
            AND entry.account_id IN (SELECT id FROM ledger_accounts WHERE kind = 'payouts')
        GROUP BY transfer.id HAVING coalesce(-sum(entry.amount_cents), 0)
            <> transfer.amount_cents - transfer.withheld_cents
        UNION ALL
        SELECT refund.id, format('%s, with %s of %s booked', refund.status, coalesce(-sum(entry.amount_cents), 0),
            refund.amount_cents)
        FROM refunds AS refund
        LEFT JOIN journals AS journal
            ON journal.kind = 'refund' AND journal.external_ref = 'hyperswitch:' || refund.reference
        LEFT JOIN entries AS entry ON entry.journal_id = journal.id
            AND entry.account_id IN (SELECT id FROM ledger_accounts WHERE kind = 'clearing')
        GROUP BY refund.id HAVING coalesce(-sum(entry.amount_cents), 0)
            <> CASE WHEN refund.status = 'succeeded' THEN refund.amount_cents ELSE 0 END
        UNION ALL
        SELECT id, 'done without a credit note' FROM refunds
        WHERE status = 'succeeded' AND origin <> 'platform' AND credit_note_number IS NULL
        UNION ALL
        SELECT share.id, format('%s reversed, with %s booked', share.reversed_cents,
            coalesce(sum(entry.amount_cents), 0))
        FROM refund_shares AS share
        LEFT JOIN journals AS journal
            ON journal.kind = 'reversal' AND journal.external_ref = 'stripe:' || share.external_ref
        LEFT JOIN entries AS entry ON entry.journal_id = journal.id
            AND entry.account_id IN (SELECT id FROM ledger_accounts WHERE kind = 'payouts')
        GROUP BY share.id HAVING coalesce(sum(entry.amount_cents), 0) <> share.reversed_cents
        UNION ALL
        SELECT journal.id, format('%s belongs to no refund', journal.external_ref)
        FROM journals AS journal
        LEFT JOIN refunds AS refund ON journal.external_ref = 'hyperswitch:' || refund.reference
        LEFT JOIN refund_shares AS share ON journal.external_ref = 'stripe:' || share.external_ref
        WHERE journal.kind IN ('refund', 'reversal') AND refund.id IS NULL AND share.id IS NULL
        UNION ALL
        SELECT order_id, format('seller %s has an earning and no transfer', seller_id)
        FROM earnings JOIN orders ON orders.id = order_id LEFT JOIN transfers USING (order_id, seller_id)
        WHERE paid_at IS NOT NULL AND gross_cents > fee_cents AND transfers.id IS NULL
    """,
    "7: clearing is what was captured less what was refunded": """
        WITH cleared AS (
            SELECT account.currency, sum(amount_cents) AS cents FROM ledger_accounts AS account
            JOIN entries ON account_id = account.id WHERE account.kind = 'clearing' GROUP BY account.currency
        ), captured AS (
            SELECT currency, sum(cents) AS cents FROM (
                SELECT currency, total_cents AS cents FROM orders WHERE paid_at IS NOT NULL AND total_cents > 0
                UNION ALL SELECT currency, amount_cents FROM (
                    SELECT DISTINCT ON (order_id) currency, amount_cents FROM refunds WHERE origin = 'platform'
                ) AS deposit
                UNION ALL SELECT currency, -amount_cents FROM refunds WHERE status = 'succeeded'
            ) AS came GROUP BY currency
        )
        SELECT NULL::uuid AS subject,
            format('%s %s on the account, %s by the orders', coalesce(cleared.cents, 0), currency,
                coalesce(captured.cents, 0)) AS detail
        FROM cleared FULL JOIN captured USING (currency)
        WHERE coalesce(cleared.cents, 0) <> coalesce(captured.cents, 0)
    """,
}
