"""How near a result comes to true views, and how a measurement is run and described."""
