"""What tests know of payment ids, and of how the database keeps them."""

# Of the payment that a row of idempotency_key is about: docs/ingest.md.
ID_OF_KEY = """CONCAT(payment_id, CASE
    WHEN LENGTH(payment_id) = 16 THEN ''
    WHEN (ORD(SUBSTR(payment_id, 10)) ^ ORD(SUBSTR(key_hash, 10))) & 15
    THEN LEFT(UNHEX(SHA2(CONCAT((SELECT secret FROM payment_identity),
                                key_hash), 256)), 6)
    ELSE SUBSTR(key_hash, 11) END)"""
