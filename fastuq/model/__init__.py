"""The model: its folder, the head in float32 and int8, and the int8 backbone on LiteRT."""
