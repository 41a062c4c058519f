"""Real HTTP stand-ins for Stripe and Hyperswitch, for `veza sandbox`, `make run` and the tests.

`stripe.stripe_app(config)` and `hyperswitch.hyperswitch_app(config)` are apps for Hypercorn on trio.
`config.SandboxConfig` is what they need, and refuses to exist in production. This room imports no other of Veza's.
"""
