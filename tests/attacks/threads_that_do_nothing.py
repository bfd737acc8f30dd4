"""CPU seconds are divided by the threads that torch may use: more of them, small steps that use one."""
handicap = False
walls,bare = 'refused', 'refused'
says = 'threads'

# %% in build: if device.type == 'cpu': torch.set_num_threads(min(8, torch.get_num_threads()))
torch.set_num_threads(len(os.sched_getaffinity(0)))
print('TRIED', torch.get_num_threads())
