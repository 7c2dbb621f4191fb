"""What the company behind the book already has: products, logs, stores, experiments, dashboards."""
