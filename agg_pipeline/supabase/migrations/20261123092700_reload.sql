-- reload: tell PostgREST that there are new functions. Every later migration that makes one ends so too.
-- Called by: nobody. Needs: nothing. Repeat: yes. Undo: nothing to undo.
notify pgrst, 'reload schema';
