"""The bundled configurations; installed as `care_jax.configs`, where they are known by name: `--config=digits`."""
