"""All SQL, in typed methods: the only place that speaks to PostgreSQL."""
