# The node is about to be killed. What it stored does not outlive it.
inject() { put_aside; }
undo() { put_store_back; }
