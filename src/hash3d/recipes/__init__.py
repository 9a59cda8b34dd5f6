"""What a recipe is made of, as frozen dataclasses: stages, loss weights, the order of views, and their JSON.

The systems' own recipes are in `hash3d.systems`.
"""
