"""Commands about the installation: projects, processes, care."""
