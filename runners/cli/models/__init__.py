"""Commands that train rerankers and retrievers, and use and measure them."""
