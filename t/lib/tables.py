"""What tests know of how the database keeps what it leaves out."""

# Of the payment that a row of idempotency_key is about: docs/ingest.md.
ID_OF_KEY = """CONCAT(payment_id, CASE
    WHEN LENGTH(payment_id) = 16 THEN ''
    WHEN (ORD(SUBSTR(payment_id, 10)) ^ ORD(SUBSTR(key_hash, 10))) & 15
    THEN LEFT(UNHEX(SHA2(CONCAT((SELECT secret FROM payment_identity),
                                key_hash), 256)), 6)
    ELSE SUBSTR(key_hash, 11) END)"""

# All that was done with payments: of an authorization without metadata only its
# payment has a row. docs/operations.md
ALL_OPERATIONS = """(
    SELECT payment_id, version, operation, status, amount, created_at, reason,
           reference, metadata
    FROM payment_operation
    UNION ALL
    SELECT id, 1, 'authorize', 'AUTHORIZED', amount, created_at, NULL, NULL,
           NULL
    FROM payment p
    WHERE NOT EXISTS (SELECT 1 FROM payment_operation o
                      WHERE o.payment_id = p.id AND o.version = 1)
) all_operations"""
