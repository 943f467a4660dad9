"""The agents: they read memories and propose changes; they have no file, shell or network tool."""
