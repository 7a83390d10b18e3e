"""The layers of a base model that get an adapter: their names, ranks and learning rates, and how adapters attach."""
