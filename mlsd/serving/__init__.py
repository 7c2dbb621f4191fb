"""What stands between a trained ranker and a user: stores, model bundles, the service, its load generator."""
