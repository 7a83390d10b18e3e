"""What a scan says beyond the pictures that it uses: folders that lie beside them, captions, masks."""
