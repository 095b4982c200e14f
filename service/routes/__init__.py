"""The routes, one file a subject. They translate between HTTP and the engine, and decide nothing."""
