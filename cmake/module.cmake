# vsockfs_module(NAME SOURCES file... [PUBLIC target...] [PRIVATE target...])
#
# One static library per folder of src. Its headers are seen as NAME/x.h, and
# only by targets that link it: the include path is a folder of the build tree
# that holds nothing but a link to this module, so that an include against the
# direction of the layers does not compile.
function(vsockfs_module name)
	cmake_parse_arguments(M "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
	set(view ${PROJECT_BINARY_DIR}/include/${name})
	file(MAKE_DIRECTORY ${view})
	file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${view}/${name} SYMBOLIC)
	add_library(vsockfs_${name} STATIC ${M_SOURCES})
	target_include_directories(vsockfs_${name} PUBLIC ${view})
	target_link_libraries(vsockfs_${name} PUBLIC ${M_PUBLIC} PRIVATE ${M_PRIVATE})
endfunction()
